"""Synthetic quotes: a seedable random walk that looks like a market and never runs away.

The log price follows an Ornstein-Uhlenbeck process around the instrument's reference price: over seconds it is a
geometric random walk, over hours it stays within a few volatilities of the reference. So a market that starts again
at the reference after a restart does not move open positions by more than the market itself would have.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

SECONDS_PER_YEAR = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class QuoteModel:
    """How one instrument's quotes behave.

    Attributes
    ----------
    reference
        Price around which the market moves, in quote currency.
    tick
        Smallest step of the price.
    volatility
        Annualised volatility of the log price, e.g. 0.6 for 60 %.
    half_life
        Seconds after which half of a deviation from the reference has gone.
    spread_ticks
        Usual spread in ticks, at least 1.
    lot
        Size step; sizes at the best price are whole multiples of it.
    least_depth_lots
        Smallest size at the best price, in lots.
    depth_lots
        Mean size at the best price above the smallest, in lots.

    """

    reference: float
    tick: float
    volatility: float
    half_life: float
    spread_ticks: int
    lot: float
    least_depth_lots: int
    depth_lots: int


@dataclass(frozen=True, slots=True)
class Quote:
    """One quote in whole ticks and lots, free of rounding errors."""

    bid_ticks: int
    ask_ticks: int
    bid_lots: int
    ask_lots: int


class QuoteStream:
    """An endless, reproducible sequence of quotes.

    Two streams of the same model, name and seed give the same quotes. Time enters only as the ``elapsed`` seconds
    given with each step, so that a test needs no clock.
    """

    def __init__(self, model: QuoteModel, name: str, seed: int) -> None:
        # random.Random hashes a str seed with SHA-512: the same on every machine and in every process.
        self._random = random.Random(f"{seed}:{name}")  # noqa: S311 - a simulated market, not a secret
        self._model = model
        self._deviation = 0.0

    def next(self, elapsed: float) -> Quote:
        """Return the quote ``elapsed`` seconds after the one before.

        Raises
        ------
        ValueError
            If ``elapsed`` is not positive.

        """
        if elapsed <= 0:
            raise ValueError(f"elapsed must be positive, was {elapsed}")
        model = self._model
        rate = math.log(2) / model.half_life
        decay = math.exp(-rate * elapsed)
        # Exact transition of the process, so that the step length does not change its variance.
        variance = model.volatility**2 / SECONDS_PER_YEAR * (1 - decay**2) / (2 * rate)
        self._deviation = self._deviation * decay + self._random.gauss(0.0, math.sqrt(variance))
        mid = model.reference * math.exp(self._deviation) / model.tick
        spread = self._spread()
        bid = max(1, math.floor(mid - spread / 2))
        return Quote(bid, bid + spread, self._depth(), self._depth())

    def _spread(self) -> int:
        # Mostly the usual spread, sometimes wider: what a stop or a slippage model would notice.
        usual = self._model.spread_ticks
        return usual if self._random.random() < 0.8 else usual + self._random.randint(1, 2 * usual)

    def _depth(self) -> int:
        return self._model.least_depth_lots + round(self._random.expovariate(1 / self._model.depth_lots))
