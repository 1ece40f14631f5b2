"""The checker itself: each kind of difference is found, and nothing else is."""

from __future__ import annotations

import pytest

from drills.ledger import Availability, Ledger, Outcome, Verdict, check

OK, FAILED, OPEN = Outcome.OK, Outcome.FAILED, Outcome.INDETERMINATE


def _ledger(outcomes: list[Outcome]) -> Ledger:
    ledger = Ledger()
    record = ledger.open("list")
    record.began(len(outcomes))
    ledger.ended(record, outcomes, 0.0, 1.0)
    return ledger


def _check(outcomes: list[Outcome], found: list[int]) -> Verdict:
    return check(_ledger(outcomes), {"list": found})


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        ([OK, OK, OK], [0, 1, 2]),
        ([OK, OPEN, OK], [0, 1, 2]),
        ([OK, OPEN, OK], [0, 2]),
        ([OK, FAILED, OK], [0, 2]),
        ([], []),
    ],
)
def test_exact(outcomes: list[Outcome], found: list[int]) -> None:
    assert _check(outcomes, found).exact


@pytest.mark.parametrize(
    ("outcomes", "found", "kind", "value"),
    [
        ([OK, OK, OK], [0, 2], "lost", 1),
        ([OK, OK, OK], [1, 2], "lost", 0),
        ([OK, OK, OK], [0, 1], "lost", 2),
        ([OK], [], "lost", 0),
        ([OK, OK], [0, 1, 1], "duplicated", 1),
        ([OK, OPEN], [0, 1, 1], "duplicated", 1),
        ([OK, OK, OK], [0, 2, 1], "reordered", 1),
        ([OK, OPEN, OK], [0, 2, 1], "reordered", 1),
        ([OK, FAILED], [0, 1], "phantom", 1),
        ([OK], [0, 1], "phantom", 1),
        ([OK], [0, -1], "phantom", -1),
    ],
)
def test_each_difference_is_found_once(outcomes: list[Outcome], found: list[int], kind: str, value: int) -> None:
    verdict = _check(outcomes, found)
    assert getattr(verdict, kind) == [("list", value)]
    others = {"lost", "duplicated", "reordered", "phantom"} - {kind}
    assert not any(getattr(verdict, other) for other in others)


def test_a_list_that_nobody_asked_for() -> None:
    assert check(_ledger([OK]), {"list": [0], "other": [7]}).phantom == [("other", 7)]


def _flushed() -> Ledger:
    """0 and 1 acknowledged before a flush, 2 and 3 under way meanwhile, 4 begun after its answer."""
    ledger = Ledger()
    record = ledger.open("list")
    record.began(2)
    ledger.ended(record, [OK, OK], 0.0, 1.0)
    record.began(2)
    ledger.flush_asked()
    ledger.ended(record, [OK, OK], 1.0, 2.0)
    ledger.flush_answered()
    record.began(1)
    ledger.ended(record, [OK], 2.0, 3.0)
    return ledger


@pytest.mark.parametrize("found", [[2, 3, 4], [3, 4], [4]])
def test_a_flush_cuts_anywhere_in_what_was_under_way(found: list[int]) -> None:
    assert check(_flushed(), {"list": found}).exact


def test_a_flush_that_was_forgotten() -> None:
    assert check(_flushed(), {"list": [0, 1, 2, 3, 4]}).phantom == [("list", 0), ("list", 1)]


def test_a_flush_that_was_applied_again_later() -> None:
    assert check(_flushed(), {"list": []}).lost == [("list", 4)]


def test_a_hole_behind_a_flush() -> None:
    assert check(_flushed(), {"list": [2, 4]}).lost == [("list", 3)]


def test_availability_knows_the_first_write_that_was_sent_after_the_fault() -> None:
    availability = Availability()
    availability.acknowledged(0.0, availability.marked - 1)
    availability.mark()
    fault = availability.marked
    availability.acknowledged(fault - 0.1, fault + 2)
    assert availability.first_ok is None
    availability.acknowledged(fault + 0.1, fault + 2.5)
    availability.acknowledged(fault + 0.2, fault + 2.6)
    assert availability.first_ok == fault + 2.5
    assert availability.longest_stall == pytest.approx(3.0, abs=0.1)
