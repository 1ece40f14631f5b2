"""The guarantee as clients see it, walked by hypothesis: sessions, bytes cut anywhere, departures, and reads.

The mutants at the end each break one rule of sessions or reads, and each has to be caught.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from trader_node.link import wire
from trader_node.link.commands import Kind
from trader_node.link.entries import Entry
from trader_node.link.reads import Reader
from trader_node.link.sequencer import Phase, Sequencer
from trader_node.link.session import Session

from . import rule_mutants as out
from .client_world import ClientWorld
from .rules import Patch, put, wrap
from .test_model import assert_caught, search

#: What has to have happened somewhere, or the walk was not worth it.
EVENTS = {"answered", "clients gone in MULTI", "lost_replies", "replayed", "reads answered", "told_early"}


def test_model_with_clients() -> None:
    walk = settings(max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(ClientWorld, settings=walk)


def test_the_walk_meets_everything() -> None:
    seen: Counter[str] = Counter()

    class Counted(ClientWorld):
        def teardown(self) -> None:
            super().teardown()
            seen.update(self.seen)

    run_state_machine_as_test(Counted, settings=search(200))
    assert {event for event, count in seen.items() if count} >= EVENTS, seen


def _prefix_forgotten(original: Any, self: Session, count: int = 1, prefix: bytes = b"") -> Any:
    return original(self, count)


def _answers_overtake(original: Any, self: Session) -> None:
    """Send each answer as soon as it is there."""
    ready = [slot for slot in self._slots if slot.reply is not None]
    for slot in ready:
        self._slots.remove(slot)
        self._slots.appendleft(slot)
    original(self)


def _takes_turns_with_nobody(original: Any, self: Session, kind: Kind) -> bool:
    self._under_way = kind
    return True


def _asks_no_more(original: Any, self: Reader) -> None:
    self._wire.clear()
    original(self)


MUTANTS: dict[str, Callable[[Patch], None]] = {
    "transaction of a client that is gone is accepted": wrap(Session, "disconnected", out.transaction_of_the_departed),
    "pipelined MULTI loses +OK +QUEUED": wrap(Session, "_sink", _prefix_forgotten),
    "answers overtake each other": wrap(Session, "_flush", _answers_overtake),
    "reads do not wait for writes": wrap(Session, "_turn", _takes_turns_with_nobody),
    "reads go to a master that lacks entries": put(
        Sequencer, "caught_up", property(lambda self: self.phase is Phase.READY)
    ),
    "reads under way are forgotten with the connection": wrap(Reader, "disconnected", _asks_no_more),
    "answers when it sends": wrap(Sequencer, "next_group", out.tells_when_it_sends),
    "lost answer told as a success": wrap(
        Entry, "deliver_lost", lambda original, self: self.deliver([wire.encode_integer(0)] * self.commands)
    ),
    "no replay of what was acknowledged": out.taken_over(out.acknowledged_is_done),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    assert_caught(ClientWorld)
