"""What the example strategy does next: a pure function of random numbers and the book of open positions.

The book is kept hedged: a new position takes the side that its instrument holds less of. The number of open positions
drifts to a target and never passes a bound, also when a restart brings back more of them than the bound allows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Intent(Enum):
    """What an order is for."""

    #: A new position.
    OPEN = "open"
    #: More of an open position.
    ADD = "add"
    #: Less of an open position, leaving it open.
    REDUCE = "reduce"
    #: All of an open position.
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Holding:
    """An open position as the decision sees it; positions come in the order they were opened.

    Attributes
    ----------
    id
        Position id.
    instrument_id
        Its instrument.
    long
        Whether it is long.
    lots
        Its size in whole lots.

    """

    id: str
    instrument_id: str
    long: bool
    lots: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the book.

    Attributes
    ----------
    target_open
        Open positions that the book drifts to.
    max_open
        Open positions at which nothing new is opened.
    max_lots
        Lots of one position at which nothing is added.

    """

    target_open: int = 24
    max_open: int = 40
    max_lots: int = 12


@dataclass(frozen=True, slots=True)
class Decision:
    """One order to submit, in whole lots; ``holding`` is None for a new position."""

    intent: Intent
    instrument_id: str
    buy: bool
    lots: int
    holding: Holding | None = None


def decide(dice: random.Random, instruments: Sequence[str], book: Sequence[Holding], limits: Limits) -> Decision:
    """Return the next order.

    Parameters
    ----------
    dice
        Source of randomness; equal state and equal book give an equal decision.
    instruments
        Ids that may be traded, at least one.
    book
        Open positions without an order in flight, oldest first.
    limits
        Bounds of the book.

    """
    if not book or (len(book) < limits.max_open and dice.random() < _share_of_opening(len(book), limits)):
        return _open(dice, instruments, book)
    roll = dice.random()
    if len(book) < limits.max_open:
        if roll < 0.2:
            holding = dice.choice(book)
            if holding.lots < limits.max_lots:
                lots = dice.randint(1, 3)
                return Decision(Intent.ADD, holding.instrument_id, holding.long, lots, holding)
        elif roll < 0.45:
            holding = dice.choice(book)
            if holding.lots > 1:
                lots = dice.randint(1, holding.lots - 1)
                return Decision(Intent.REDUCE, holding.instrument_id, not holding.long, lots, holding)
    # Mostly from the older half, so that every position is closed some day but not in the order of opening.
    holding = dice.choice(book[: (len(book) + 1) // 2])
    return Decision(Intent.CLOSE, holding.instrument_id, not holding.long, holding.lots, holding)


def _share_of_opening(open_positions: int, limits: Limits) -> float:
    # Below the target more than a half of all orders open, above it fewer: the book settles around the target.
    return min(0.9, max(0.1, 0.36 + 0.5 * (limits.target_open - open_positions) / limits.target_open))


def _open(dice: random.Random, instruments: Sequence[str], book: Sequence[Holding]) -> Decision:
    instrument_id = dice.choice(instruments)
    net = sum(h.lots if h.long else -h.lots for h in book if h.instrument_id == instrument_id)
    buy = net < 0 if net else dice.random() < 0.5
    return Decision(Intent.OPEN, instrument_id, buy, dice.randint(2, 6))
