"""Going on with a data set that cannot be made exact: only where the user asked, never against another link."""

from __future__ import annotations

import pytest

from trader_node.link.decisions import Cause
from trader_node.link.entries import Entry, Form
from trader_node.link.journal import Journal
from trader_node.link.marker import History, Marker, Refusal, Situation, TakeOver, decide
from trader_node.link.policy import OnGap, go_on
from trader_node.link.state import LinkState

HERE, ELSEWHERE = History("run1", "history1"), History("run2", "history2")
NONE = Marker("", None)
MINE = LinkState("mine", 3, contacted=True)
ALWAYS_STOP = {Cause.FOREIGN, Cause.NEWER_RUN, Cause.AHEAD, Cause.PARTIAL, Cause.REPLAY_REFUSED}


def journal(first: int, last: int, acknowledged: int = 0) -> Journal:
    result = Journal(first)
    for seq in range(first, last + 1):
        result.append(Entry(seq, 0, 0, Form.SINGLE, 1, b"x"))
        result.entry(seq).acknowledged = seq <= acknowledged
    return result


def situation(*, keys: int = 5, last: History | None = ELSEWHERE, applied: int = 0) -> Situation:
    return Situation(HERE, keys, last, applied, unknown_outcome=True)


def run_began(behind: int) -> LinkState:
    return LinkState("mine", 3, contacted=True, runs=[[3, behind]])


def continued(marker: Marker, now: Situation, kept: Journal, cause: Cause, mine: LinkState = MINE) -> TakeOver:
    """Decide, and go on where deciding alone would have stopped for this cause."""
    refusal = decide(marker, now, mine, kept)
    assert isinstance(refusal, Refusal)
    assert refusal.cause is cause
    assert go_on(refusal, marker, now, kept, OnGap.STOP) is refusal
    outcome = go_on(refusal, marker, now, kept, OnGap.CONTINUE)
    assert isinstance(outcome, TakeOver)
    assert outcome.write_seq, "the marker has to say where the data set stands now"
    assert cause.value in outcome.warning
    return outcome


@pytest.mark.parametrize("cause", list(Cause))
def test_stopping_is_what_stop_means(cause: Cause) -> None:
    refusal = Refusal("why", cause)
    assert go_on(refusal, Marker("mine:3:1", 2), situation(), journal(5, 10), OnGap.STOP) is refusal


@pytest.mark.parametrize("cause", sorted(ALWAYS_STOP, key=lambda cause: cause.value))
def test_what_is_never_gone_on_with(cause: Cause) -> None:
    refusal = Refusal("why", cause)
    assert go_on(refusal, Marker("mine:3:1", 2), situation(), journal(5, 10), OnGap.CONTINUE) is refusal


def test_gap_loses_exactly_what_the_journal_has_forgotten() -> None:
    outcome = continued(Marker("mine:3:1", 2), situation(), journal(5, 10), Cause.GAP)
    assert (outcome.seq, outcome.lost, outcome.unsure) == (4, 2, 0)
    assert "2 entries (3 to 4) are LOST" in outcome.warning


def test_entries_of_an_earlier_run_stay_and_those_of_this_run_follow() -> None:
    outcome = continued(Marker("mine:2:1", 9), situation(), journal(5, 10), Cause.FORKED, run_began(7))
    assert (outcome.seq, outcome.lost, outcome.unsure) == (7, 0, 0)
    assert "no entry is lost" in outcome.warning


def test_entries_of_this_run_that_the_journal_has_forgotten_are_lost_with_a_fork() -> None:
    outcome = continued(Marker("mine:2:1", 9), situation(), journal(5, 10), Cause.FORKED, run_began(2))
    assert (outcome.seq, outcome.lost) == (4, 2)


def test_empty_data_set_gets_all_that_is_kept() -> None:
    outcome = continued(NONE, situation(keys=0), journal(5, 10), Cause.MARKER_LOST)
    assert (outcome.seq, outcome.lost, outcome.unsure) == (4, 4, 0)


def test_without_marker_only_what_was_never_applied_is_sent() -> None:
    outcome = continued(NONE, situation(applied=8), journal(5, 10), Cause.MARKER_LOST)
    assert (outcome.seq, outcome.lost, outcome.unsure) == (8, 0, 4)
    assert "4 entries up to 8 may be missing" in outcome.warning


def test_after_a_restart_the_journal_tells_what_was_applied() -> None:
    outcome = continued(NONE, situation(last=None), journal(5, 10, acknowledged=7), Cause.MARKER_LOST)
    assert (outcome.seq, outcome.unsure) == (7, 6)
    outcome = continued(NONE, situation(last=None), journal(5, 10, acknowledged=10), Cause.MARKER_LOST)
    assert (outcome.seq, outcome.unsure) == (10, 6)


def test_after_a_restart_what_may_have_been_sent_may_be_doubled() -> None:
    outcome = continued(NONE, situation(last=None), journal(5, 10, acknowledged=8), Cause.MARKER_LOST)
    assert (outcome.seq, outcome.lost, outcome.unsure) == (8, 0, 6)
    assert "4 entries up to 8 may be missing" in outcome.warning
    assert "2 entries behind 8 are sent again and may be in it twice" in outcome.warning


def test_transaction_of_unknown_outcome_is_sent_again() -> None:
    outcome = continued(NONE, situation(last=HERE, applied=8), journal(5, 10), Cause.OUTCOME_UNKNOWN)
    assert (outcome.seq, outcome.lost, outcome.unsure) == (8, 0, 2)
    assert "may be in it twice" in outcome.warning
