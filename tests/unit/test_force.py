"""When the link asks for a failover by itself: every guard alone keeps it from that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trader_node.link.discovery import SentinelView
from trader_node.link.force import ForceDecision, Guards, quorum_reachable

A, B = ("10.0.0.1", 6379), ("10.0.0.2", 6379)
LOST = SentinelView(A, 1, at=10.05, lost=True)


def decision(refusals: tuple[float, ...] = (10.0, 10.06, 10.12), sentinels: int = 3) -> ForceDecision:
    result = ForceDecision(sentinels, Guards(refusals=3, over=0.15, pause=10.0))
    for at in refusals:
        result.refused(A, at)
    return result


def test_dead_master_that_a_majority_has_lost_is_failed_over() -> None:
    assert decision().due(A, [LOST, LOST], 10.15)
    assert decision().due(A, [LOST, LOST, replace(LOST, lost=False)], 10.15)


def test_the_defaults_are_the_documented_ones() -> None:
    assert Guards() == Guards(refusals=3, over=0.15, pause=10.0)


@pytest.mark.parametrize("refusals", [(), (10.0,), (10.0, 10.1)])
def test_a_few_refusals_are_not_enough(refusals: tuple[float, ...]) -> None:
    assert not decision(refusals).due(A, [LOST] * 3, 10.2)


def test_refusals_in_one_moment_are_not_enough() -> None:
    forcing = decision((10.0, 10.01, 10.02))
    assert not forcing.due(A, [LOST] * 3, 10.149)
    assert forcing.due(A, [LOST] * 3, 10.151)


@pytest.mark.parametrize(
    "views",
    [
        [],
        [LOST],
        [LOST, replace(LOST, lost=False), replace(LOST, lost=False)],
        # Before the outage: that Sentinel knows nothing of it yet, or has lost the master for a reason of its own.
        [LOST, replace(LOST, at=9.99)],
        # Another master.
        [LOST, replace(LOST, master=B)],
    ],
)
def test_a_minority_of_the_sentinels_is_not_enough(views: list[SentinelView]) -> None:
    assert not decision().due(A, views, 10.2)


def test_majority_is_one_of_all_sentinels_also_of_those_that_do_not_answer() -> None:
    assert not decision(sentinels=5).due(A, [LOST, LOST], 10.2)
    assert decision(sentinels=5).due(A, [LOST, LOST, LOST], 10.2)


def test_failover_under_way_is_left_alone() -> None:
    assert not decision().due(A, [LOST, LOST, replace(LOST, failing_over=True)], 10.2)


@pytest.mark.parametrize("named", [None, B])
def test_only_the_named_master_is_failed_over(named: tuple[str, int] | None) -> None:
    assert not decision().due(named, [LOST] * 3, 10.2)
    assert not decision().due(named, [replace(LOST, master=B)] * 3, 10.2)


def test_orders_are_rare() -> None:
    forcing = decision()
    assert forcing.due(A, [LOST] * 3, 10.2)
    forcing.ordered(10.2)
    assert not forcing.due(A, [LOST] * 3, 20.1)
    assert forcing.due(A, [LOST] * 3, 20.2)


def test_answer_in_between_begins_the_count_anew() -> None:
    forcing = decision()
    forcing.answered()
    assert not forcing.due(A, [LOST] * 3, 10.2)
    forcing.refused(A, 10.2)
    forcing.refused(A, 10.3)
    assert not forcing.due(A, [replace(LOST, at=10.4)] * 3, 10.4)


def test_refusals_of_another_node_do_not_count() -> None:
    forcing = decision((10.0, 10.06))
    forcing.refused(B, 10.1)
    forcing.refused(A, 10.12)
    assert not forcing.due(A, [replace(LOST, at=10.2)] * 3, 10.3)


@pytest.mark.parametrize(
    ("reply", "good"),
    [
        ("OK 3 usable Sentinels. Quorum and failover authorization can be reached", True),
        ("ResponseError: NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the majority", False),
        ("TimeoutError: ", False),
        (None, False),
    ],
)
def test_quorum(reply: object, good: bool) -> None:
    assert quorum_reachable(reply) is good
