"""The guarantee, walked by hypothesis: every order of write, crash, failover, roll-back, late bytes and trim.

The mutants at the end each break one rule of the link, and each has to be caught.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from trader_node.link import wire
from trader_node.link.entries import Entry
from trader_node.link.marker import MarkerCommands
from trader_node.link.replicas import ReplicaMarkers
from trader_node.link.sequencer import Sequencer

from . import rule_mutants as out
from .rules import Patch, both, wrap
from .world import World

#: What has to have happened somewhere, or the walk was not worth it.
EVENTS = {
    "crashes of the link",
    "fenced",
    "halted: marker_lost",
    "halted: outcome_unknown",
    "late_errors",
    "lost_replies",
    "refused",
    "replayed",
    "told_early",
    "trimmed",
}


def test_model() -> None:
    walk = settings(max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(World, settings=walk)


def search(examples: int) -> settings:
    """Walk the same ways each time, and do not look for a shorter one to what is found."""
    return settings(
        max_examples=examples,
        stateful_step_count=60,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def test_the_walk_meets_everything() -> None:
    seen: Counter[str] = Counter()

    class Counted(World):
        def teardown(self) -> None:
            super().teardown()
            seen.update(self.seen)

    run_state_machine_as_test(Counted, settings=search(250))
    assert {event for event, count in seen.items() if count} >= EVENTS, seen


# --- mutants -------------------------------------------------------------------------------------------------------


def _told_as_not_applied(original: object, self: Entry) -> None:
    self.refuse(wire.encode_error("ERR it was not applied"))


MUTANTS: dict[str, Callable[[Patch], None]] = {
    "no fence": wrap(MarkerCommands, "__init__", out.unwatched),
    "handshake that does not touch the marker": both(
        wrap(Sequencer, "_identified", out.without_touching), wrap(Sequencer, "_taken_over", out.believing)
    ),
    "EXEC nil is success": wrap(Sequencer, "_executed", out.nil_is_applied),
    "replay begins one too late": out.taken_over(out.skip_one),
    "replay begins one too early": out.taken_over(out.one_too_many),
    "no replay of what was acknowledged": out.taken_over(out.acknowledged_is_done),
    "replay that was sent is replay that is done": out.taken_over(out.sent_is_done),
    "trims what the master has": wrap(Sequencer, "trim", out.trims_without("nodes")),
    "trims what only nodes that answer have": wrap(
        ReplicaMarkers, "held_everywhere", out.seen_by(lambda self, node: node not in self.silent)
    ),
    "answers when it sends": wrap(Sequencer, "next_group", out.tells_when_it_sends),
    "lost answer told as not applied": wrap(Entry, "deliver_lost", _told_as_not_applied),
    "refusal that is not in the journal": wrap(Sequencer, "_refuse", out.void_in_memory_only),
    "marker deleted: all is sent again": out.decided(out.as_if_empty),
    "marker deleted, outcome unknown: goes on": out.in_situation(unknown_outcome=False),
    "marker missing elsewhere: goes on": out.decided(out.as_if_here),
}


def assert_caught(world: type[RuleBasedStateMachine]) -> None:
    with pytest.raises((AssertionError, FlakyFailure)):
        run_state_machine_as_test(world, settings=search(5000))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    assert_caught(World)


def test_journal_written_too_late_is_caught() -> None:
    class Broken(World):
        journal_first = False

    assert_caught(Broken)
