"""Every answer to a marker that a master may show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trader_node.link import wire
from trader_node.link.decisions import Cause
from trader_node.link.entries import Entry, Form
from trader_node.link.journal import Journal
from trader_node.link.marker import (
    History,
    Look,
    LookAgain,
    Marker,
    MarkerCommands,
    Refusal,
    Situation,
    TakeOver,
    decide,
    owner_name,
    parse_marker,
)
from trader_node.link.state import LinkState

HERE, ELSEWHERE = History("run1", "history1"), History("run2", "history2")
NONE = Marker("", None)


def state(
    *,
    contacted: bool = True,
    incarnation: int = 3,
    adopted: tuple[str, int] = ("", 0),
    runs: list[list[int]] | None = None,
) -> LinkState:
    return LinkState("mine", incarnation, contacted, *adopted, runs or [])


def journal(first: int, last: int) -> Journal:
    result = Journal(first)
    for seq in range(first, last + 1):
        result.append(Entry(seq, 0, 0, Form.SINGLE, 1, b""))
    return result


def situation(
    *,
    keys: int = 5,
    last: History | None = ELSEWHERE,
    applied: int = 0,
    unknown: bool = False,
    look: Look | None = None,
    adopt: bool = False,
) -> Situation:
    return Situation(HERE, keys, last, applied, unknown, "", look, adopt)


def refused(cause: Cause, marker: Marker, *why: str, now: Situation, mine: LinkState, kept: Journal) -> None:
    outcome = decide(marker, now, mine, kept)
    assert isinstance(outcome, Refusal)
    assert outcome.cause is cause
    for text in why:
        assert text in outcome.reason


# --- own marker ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [10, 9, 5, 4])
def test_own_marker_inside_the_journal_is_taken_as_it_is(seq: int) -> None:
    assert decide(Marker("mine:3:7", seq), situation(), state(), journal(5, 10)) == TakeOver(seq)


def test_own_marker_of_an_older_run_is_taken() -> None:
    assert decide(Marker("mine:1:7", 5), situation(last=None), state(), journal(5, 10)) == TakeOver(5)


def test_newer_run_is_left_alone() -> None:
    refused(
        Cause.NEWER_RUN,
        Marker("mine:4:1", 5),
        "newer run",
        "stop one",
        now=situation(),
        mine=state(),
        kept=journal(1, 10),
    )


def test_data_set_behind_the_journal_is_refused_with_the_count() -> None:
    refused(Cause.GAP, Marker("mine:3:7", 3), "1 entries are lost", now=situation(), mine=state(), kept=journal(5, 10))


def test_data_set_ahead_at_the_first_look_means_that_the_tail_was_lost() -> None:
    outcome = decide(Marker("mine:2:7", 12), situation(last=None), state(), journal(5, 10))
    assert isinstance(outcome, TakeOver)
    assert (outcome.seq, outcome.skip, outcome.write_seq) == (12, True, False)
    assert "2 entries ahead" in outcome.warning


def test_data_set_of_an_earlier_run_ahead_of_this_one_is_refused() -> None:
    mine = state(runs=[[1, 0], [2, 3], [3, 8]])
    refused(Cause.FORKED, Marker("mine:2:7", 9), "earlier run", now=situation(), mine=mine, kept=journal(5, 10))
    assert decide(Marker("mine:2:7", 8), situation(), mine, journal(5, 10)) == TakeOver(8)


@pytest.mark.parametrize("last", [None, ELSEWHERE])
def test_data_set_of_a_run_before_the_last_one_is_told_apart_too(last: History | None) -> None:
    # Run 1 wrote 1 to 105, the journal lost what is behind 100, run 2 numbered its own from 101: run 3 finds run 1's.
    mine = state(runs=[[1, 0], [2, 100]])
    now = situation(last=last)
    refused(Cause.FORKED, Marker("mine:1:7", 105), "earlier run", now=now, mine=mine, kept=journal(90, 150))


def test_copy_of_the_journal_in_another_process_is_left_alone() -> None:
    now = replace(situation(), nonce="here")
    assert decide(Marker("mine:3:7:here", 9), now, state(), journal(5, 10)) == TakeOver(9)
    refused(Cause.NEWER_RUN, Marker("mine:3:7:there", 9), "stop one", now=now, mine=state(), kept=journal(5, 10))
    assert decide(Marker("mine:2:7:there", 9), now, state(), journal(5, 10)) == TakeOver(9)


def test_of_very_old_runs_the_strictest_bound_is_kept() -> None:
    mine = LinkState("mine")
    for incarnation in range(1, 201):
        mine.incarnation = incarnation
        mine.note_run(incarnation * 10)
    assert len(mine.runs) <= 64
    assert mine.shared_with(199) == 2000
    assert mine.shared_with(200) is None
    assert mine.shared_with(1) == 10


def test_data_set_ahead_later_means_another_writer() -> None:
    refused(
        Cause.AHEAD,
        Marker("mine:3:7", 12),
        "only 10",
        "another writer",
        now=situation(),
        mine=state(),
        kept=journal(5, 10),
    )


# --- another journal's marker ----------------------------------------------------------------------------------------


OTHER = Marker("other:1:1", 8)


def begin_on(marker: Marker, look: Look | None, *, adopt: bool = False) -> TakeOver | LookAgain | Refusal:
    return decide(marker, situation(last=None, look=look, adopt=adopt), state(contacted=False), Journal())


def test_new_journal_looks_twice_at_what_another_one_left() -> None:
    outcome = begin_on(OTHER, None)
    assert isinstance(outcome, LookAgain)
    assert outcome.delay == 4.0
    assert "other:1:1, entry 8" in outcome.reason
    assert begin_on(OTHER, Look(OTHER, 1.0, 1)) == LookAgain(
        "the data set was written by another journal (owner other:1:1, entry 8): watching whether its link still runs",
        4.0,
    )


@pytest.mark.parametrize(("age", "idle"), [(4.0, 3), (4.1, 4), (4.1, None), (60.0, 59)])
def test_new_journal_begins_on_what_nobody_uses_any_more(age: float, idle: int | None) -> None:
    outcome = begin_on(OTHER, Look(OTHER, age, idle))
    assert isinstance(outcome, TakeOver)
    assert (outcome.seq, outcome.write_seq, outcome.skip) == (0, True, False)
    assert "other:1:1, entry 8" in outcome.warning


@pytest.mark.parametrize(
    "look",
    [
        Look(Marker("other:1:1", 7), 4.1, None),  # it has written
        Look(Marker("other:1:0", 8), 1.0, None),  # it has connected anew
        Look(OTHER, 4.1, 0),  # it reads the marker
        Look(OTHER, 4.1, 2),
    ],
)
def test_new_journal_does_not_take_the_data_set_from_a_link_that_runs(look: Look) -> None:
    outcome = begin_on(OTHER, look)
    assert isinstance(outcome, Refusal)
    assert outcome.cause is Cause.FOREIGN
    assert "its link runs" in outcome.reason
    assert "LINK_ADOPT" in outcome.reason


def test_new_journal_takes_the_data_set_at_once_if_told_so() -> None:
    assert isinstance(begin_on(OTHER, None, adopt=True), TakeOver)


def test_adopting_is_for_new_journals_only() -> None:
    refused(Cause.FOREIGN, OTHER, "another link", now=situation(adopt=True), mine=state(), kept=journal(1, 10))


def test_what_the_journal_began_on_is_replayed_from_the_beginning() -> None:
    mine = state(adopted=("other:1:1", 8))
    outcome = decide(Marker("other:1:1", 8), situation(), mine, journal(1, 10))
    assert isinstance(outcome, TakeOver)
    assert (outcome.seq, outcome.write_seq) == (0, True)


@pytest.mark.parametrize(
    ("marker", "first"),
    [
        (Marker("other:1:1", 9), 1),  # it has written since
        (Marker("other:1:2", 8), 1),
        (Marker("third:1:1", 8), 1),
        (Marker("other:1:1", 8), 2),  # what is missing is not in the journal any more
    ],
)
def test_marker_of_another_link_is_refused(marker: Marker, first: int) -> None:
    mine = state(adopted=("other:1:1", 8))
    refused(
        Cause.FOREIGN,
        marker,
        "belongs to another link",
        "stop the",
        now=situation(),
        mine=mine,
        kept=journal(first, 10),
    )


# --- no marker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [0, 5])
def test_first_contact_of_all(keys: int) -> None:
    now = situation(keys=keys, last=None)
    assert decide(NONE, now, state(contacted=False), Journal()) == TakeOver(0, write_seq=True)


def test_marker_removed_from_under_the_link_is_written_again() -> None:
    outcome = decide(NONE, situation(last=HERE, applied=7), state(), journal(5, 10))
    assert isinstance(outcome, TakeOver)
    assert (outcome.seq, outcome.write_seq) == (7, True)
    assert "removed by somebody else" in outcome.warning


def test_marker_removed_while_a_transaction_was_on_its_way() -> None:
    now = situation(last=HERE, applied=7, unknown=True)
    refused(Cause.OUTCOME_UNKNOWN, NONE, "cannot be told", now=now, mine=state(), kept=journal(5, 10))


def test_unknown_outcome_elsewhere_does_not_matter_on_an_empty_data_set() -> None:
    outcome = decide(NONE, situation(keys=0, unknown=True), state(), journal(1, 10))
    assert isinstance(outcome, TakeOver)
    assert (outcome.seq, outcome.write_seq) == (0, True)
    assert "replaying all" in outcome.warning


@pytest.mark.parametrize(
    ("keys", "first", "adopted"),
    [
        (5, 1, ("", 0)),  # somebody's data
        (0, 2, ("", 0)),  # the first entries are not in the journal any more
        (0, 1, ("other:1:1", 8)),  # it did not begin empty
    ],
)
def test_missing_marker_elsewhere_is_refused(keys: int, first: int, adopted: tuple[str, int]) -> None:
    now, mine = situation(keys=keys), state(adopted=adopted)
    refused(Cause.MARKER_LOST, NONE, f"{keys} keys", now=now, mine=mine, kept=journal(first, 10))


@pytest.mark.parametrize("same", [("run1", "other"), ("other", "history1")])
def test_same_process_or_same_history_alone_proves_nothing(same: tuple[str, str]) -> None:
    refused(Cause.MARKER_LOST, NONE, "missing", now=situation(last=History(*same)), mine=state(), kept=journal(1, 10))


# --- reading and writing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "seq", "expected"),
    [
        (b"a:1:2", b"7", Marker("a:1:2", 7)),
        (b"a:1:2", None, Marker("a:1:2", None)),
        (None, None, NONE),
        (b"a", b"", Marker("a", None)),
        (b"a", b"-1", Marker("a", None)),
        (b"a", b"x", Marker("a", None)),
        (b"\xff", b"1", Marker("�", 1)),
        (5, 6, NONE),
    ],
)
def test_parse(owner: object, seq: object, expected: Marker) -> None:
    assert parse_marker(owner, seq) == expected


def test_commands() -> None:
    commands = MarkerCommands("key")
    assert wire.decode(commands.watch) == [b"WATCH", b"key"]
    assert wire.decode(commands.read) == [b"HMGET", b"key", b"o", b"s"]
    assert wire.decode(commands.set("me", None)) == [b"HSET", b"key", b"o", b"me"]
    assert wire.decode(commands.set("me", 4)) == [b"HSET", b"key", b"o", b"me", b"s", b"4"]


def test_owner_is_unique_to_a_connection_of_a_run() -> None:
    names = {owner_name(state(incarnation=run), number) for run in (1, 2, 11) for number in (1, 2, 11)}
    assert len(names) == 9
