"""The guarantee, walked by hypothesis: every order of write, crash, failover, roll-back, late bytes and trim.

Invariant: every data set anywhere is S_k, the result of entries 1 to k, and its marker says k. The mutants at the end
each break one rule of the sequencer, and each has to be caught.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import run_state_machine_as_test

from trader_node.link import wire
from trader_node.link.decisions import Decision, Ready
from trader_node.link.sequencer import Sequencer

from .world import World

TestModel = World.TestCase
TestModel.settings = settings(
    max_examples=500, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)


# --- mutants -------------------------------------------------------------------------------------------------------


class NoFence(Sequencer):
    """Does not WATCH the marker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._marker.watch = wire.encode_command(b"PING")

    def receive(self, data: bytes, now: float) -> tuple[bytes, Decision | None]:
        return super().receive(data, now)


class ReplayOneTooFar(Sequencer):
    """Skips the first entry behind the marker."""

    def _taken_over(self, replies: list[bytes], now: float) -> Decision:
        decision = super()._taken_over(replies, now)
        if isinstance(decision, Ready) and decision.replay:
            self._next_seq += 1
        return decision


class NoReplay(Sequencer):
    """Sends only what was never acknowledged, as plain hold-and-retry does."""

    def _taken_over(self, replies: list[bytes], now: float) -> Decision:
        decision = super()._taken_over(replies, now)
        if isinstance(decision, Ready):
            self._next_seq = max(self._next_seq, self._highest_acknowledged + 1)
        return decision


class ReplayFromAcknowledged(Sequencer):
    """Sends the transaction of unknown outcome again without looking at the marker."""

    def _taken_over(self, replies: list[bytes], now: float) -> Decision:
        decision = super()._taken_over(replies, now)
        if isinstance(decision, Ready):
            self._next_seq = min(self._next_seq, max(self._next_seq - 1, self.journal.first_seq))
        return decision


class TrimTooEarly(Sequencer):
    """Forgets entries when the master has them."""

    def trim(self, held_everywhere: int, accepted_before: float) -> int:
        return super().trim(self._applied, accepted_before)


class AcknowledgeOnQueued(Sequencer):
    """Answers clients before EXEC has answered."""

    def next_group(self, now: float) -> bytes:
        data = super().next_group(now)
        if self._group is not None:
            for entry in self._group.entries:
                if not entry.acknowledged and not entry.void:
                    entry.deliver([wire.encode_integer(0)] * entry.commands)
        return data


class VerifyNothingAfterRefusal(Sequencer):
    """Sends the next transaction after a refused one without reading the marker back."""

    def _verified(self, group: Any, reply: bytes) -> Decision | None:
        if not group.executed:
            self._group = None
            return None
        return super()._verified(group, reply)


MUTANTS = [NoFence, ReplayOneTooFar, NoReplay, ReplayFromAcknowledged, TrimTooEarly, AcknowledgeOnQueued]


def _assert_caught(world: type[World]) -> None:
    """Walk until the broken link is found out; shrinking the story is not needed."""
    search = settings(
        max_examples=5000,
        stateful_step_count=60,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises((AssertionError, FlakyFailure)):
        run_state_machine_as_test(world, settings=search)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_mutant_is_caught(mutant: type[Sequencer]) -> None:
    class Broken(World):
        sequencer_class = mutant

    _assert_caught(Broken)


def test_journal_written_too_late_is_caught() -> None:
    class Broken(World):
        journal_first = False

    _assert_caught(Broken)
