"""A drill passes only if a fault really happened under traffic and everything that was accepted is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drills.limits import Limits
from drills.results import AppenderCounts, NodeSpan, TraderCounts
from drills.traffic import Operation
from drills.verdict import Evidence, Expectation, availability, came_up_beside, caught, checks, phases, timeline

BEGAN = 1000.0
#: Inject, injected, confirmed, heal, healed, whole, ended.
TIMES = (1002.0, 1002.1, 1003.5, 1005.0, 1005.2, 1007.0, 1009.0)


def traffic(stall: tuple[float, float] = (1002.05, 1004.0), every: float = 0.01) -> list[Operation]:
    """One append at a time; one of them waits for as long as the stall lasts."""
    operations, at = [], BEGAN
    while at < TIMES[-1]:
        took = 0.002
        if at < stall[0] <= at + every:
            took = stall[1] - at
        operations.append(Operation(at, at + took, 1, 0, 0))
        at += max(every, took)
    return operations


def good() -> Evidence:
    inject, injected, confirmed, heal, healed, whole, ended = TIMES
    return Evidence(
        Expectation(),
        began=BEGAN,
        inject=inject,
        injected=injected,
        confirmed=confirmed,
        heal=heal,
        healed=healed,
        whole=whole,
        ended=ended,
        effect="redis-2 was promoted in place of redis-1",
        old_master="redis-1",
        new_master="redis-2",
        promoted=1003.4,
        operations=traffic(),
        appender=AppenderCounts(acknowledged=800),
        trader=TraderCounts(positions=5, orders=9, fills=9, accounts=1, orders_during_fault=3),
        appender_compared=True,
        trader_compared=True,
        trader_caught=2,
    )


def failed(evidence: Evidence, limits: Limits | None = None) -> list[str]:
    return [check.name for check in checks(evidence, limits or Limits()) if not check.passed]


def test_a_good_run_passes() -> None:
    assert failed(good()) == []


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"effect": ""}, "the fault took effect"),
        ({"confirmed": None}, "the fault took effect"),
        ({"new_master": "redis-1"}, "another node is master"),
        ({"new_master": ""}, "another node is master"),
        ({"operations": traffic((0.0, 0.0))}, "writes waited"),
        ({"operations": []}, "operations were in flight"),
        ({"operations": []}, "samples: steady"),
        ({"operations": [op for op in traffic() if op.ended < TIMES[5]]}, "samples: after"),
        ({"operations": [op for op in traffic() if not TIMES[0] <= op.ended < TIMES[3]]}, "samples: fault"),
        ({"operations": [op for op in traffic() if not TIMES[3] <= op.ended < TIMES[5]]}, "samples: recovery"),
        ({"trader_caught": 0}, "the trader's writes waited"),
        ({"whole": None}, "everything is well again"),
        ({"ended": None}, "everything is well again"),
        ({"trouble": "no answer"}, "everything is well again"),
        ({"trader_restarted": True}, "the node was not restarted"),
        ({"appender_compared": False}, "appender: lost"),
        ({"trader_compared": False}, "trader: lost"),
        ({"promoted": None}, "promotion"),
        ({"promoted": 1050.0}, "promotion"),
        ({"healed": None}, "full redundancy after the healing"),
        ({"appender": AppenderCounts()}, "something was compared"),
        ({"trader": TraderCounts()}, "the node traded on"),
        ({"expected": Expectation(changes_master=False)}, "the master stayed"),
        ({"two_masters": 0.8}, "no restarted node is a second master"),
    ],
)
def test_what_makes_it_fail(change: dict[str, Any], check: str) -> None:
    assert check in failed(replace(good(), **change))


@pytest.mark.parametrize(
    ("who", "counts", "name"),
    [
        *(("appender", AppenderCounts, name) for name in ("lost", "duplicated", "reordered", "phantom")),
        *(("trader", TraderCounts, name) for name in ("lost", "duplicated", "wrong", "phantom")),
    ],
)
def test_every_difference_fails_unless_it_is_allowed(who: str, counts: Any, name: str) -> None:
    evidence = good()
    setattr(getattr(evidence, who), name, 1)
    assert failed(evidence) == [f"{who}: {name}"]
    assert failed(evidence, Limits(**{name: 1})) == []


def test_refused_and_indeterminate_writes_fail() -> None:
    evidence = good()
    evidence.appender.failed = evidence.appender.indeterminate = 1
    assert failed(evidence) == ["appender: refused", "appender: indeterminate"]


def test_the_longest_stall_counts_to_the_end() -> None:
    evidence = replace(good(), operations=[op for op in traffic() if op.ended < 1008.0])
    assert availability(good()).longest_stall == pytest.approx(1.95, abs=0.03)
    assert availability(replace(evidence, ended=1020.0)).longest_stall == pytest.approx(12.0, abs=0.03)
    assert "longest stall" in failed(replace(evidence, ended=1020.0))


def test_where_the_drill_keeps_everybody_waiting_only_what_follows_counts() -> None:
    waits = Expectation(resumes_unhealed=False)
    held = [op for op in traffic() if not TIMES[1] < op.ended < TIMES[4]]
    assert failed(replace(good(), operations=[*held, Operation(1002.0, 1005.3, 1, 0, 0)], expected=waits)) == []
    late = [op for op in held if op.ended < TIMES[0] or op.ended > 1014.0]
    evidence = replace(good(), operations=[*late, Operation(1002.0, 1015.0, 1, 0, 0)], ended=1016.0, expected=waits)
    assert "writes after the healing" in failed(evidence)


def test_times_are_counted_from_the_fault() -> None:
    times = availability(good())
    assert times.promotion == pytest.approx(1.3)
    assert times.first_write == pytest.approx(1.9, abs=0.05)
    assert times.redundancy == pytest.approx(4.9)
    assert times.redundancy_after_heal == pytest.approx(1.8)


def test_phases_and_timeline_cover_every_operation() -> None:
    evidence = good()
    assert [phase.name for phase in phases(evidence)] == ["steady", "fault", "recovery", "after"]
    assert sum(bucket.acknowledged for bucket in timeline(evidence)) == len(evidence.operations)
    assert max(bucket.longest_ms for bucket in timeline(evidence)) == pytest.approx(1950, abs=30)
    assert caught(evidence) == 1


@given(
    reached=st.integers(0, len(TIMES) - 1),
    operations=st.lists(
        st.builds(
            lambda began, took, ok: Operation(began, began + took, ok, 1 - ok, 0),
            st.floats(BEGAN, TIMES[-1]),
            st.floats(0, 5),
            st.integers(0, 1),
        ),
        max_size=20,
    ),
)
def test_a_run_that_ended_early_never_passes(reached: int, operations: list[Operation]) -> None:
    """At whatever point it ended, and whatever was written by then."""
    names = ("inject", "injected", "confirmed", "heal", "healed", "whole", "ended")
    later = dict.fromkeys(names[reached:], None)
    assert failed(replace(good(), operations=operations, **later))


@given(st.data())
def test_nothing_measured_is_never_a_success(data: st.DataObject) -> None:
    """Taking away any one kind of evidence makes the run fail."""
    gone = data.draw(
        st.sampled_from(
            [
                {"operations": []},
                {"effect": ""},
                {"appender_compared": False},
                {"trader_compared": False},
                {"whole": None},
                {"ended": None},
                {"inject": None},
                {"trader": TraderCounts()},
                {"appender": AppenderCounts()},
            ]
        )
    )
    assert failed(replace(good(), **gone))


def test_only_a_restarted_node_has_to_know_better() -> None:
    spans = [
        NodeSpan(node="redis-1", began=0, ended=3, state="master"),
        NodeSpan(node="redis-1", began=3, ended=6, state="silent"),
        NodeSpan(node="redis-1", began=6, ended=7.5, state="master"),
        NodeSpan(node="redis-1", began=7.5, ended=10, state="replica"),
        NodeSpan(node="redis-2", began=0, ended=4, state="replica"),
        NodeSpan(node="redis-2", began=4, ended=10, state="master"),
        NodeSpan(node="redis-3", began=0, ended=10, state="silent"),
    ]
    assert came_up_beside(spans, {"redis-1": 5.5, "redis-2": -60.0, "redis-3": -60.0}) == 1.5
    # It hung, or was cut off.
    assert came_up_beside(spans, {"redis-1": -60.0}) == 0.0
    # It came up as a replica and was promoted later.
    promoted = [span.model_copy(update={"state": "replica"}) if span.began == 6 else span for span in spans]
    assert came_up_beside(promoted, {"redis-1": 5.5}) == 0.0
    # So did this one, and its promotion cut the observer's connection for a moment.
    blink = [
        NodeSpan(node="redis-1", began=5.8, ended=6, state="replica"),
        NodeSpan(node="redis-1", began=6, ended=6.1, state="silent"),
        NodeSpan(node="redis-1", began=6.1, ended=10, state="master"),
    ]
    assert came_up_beside([*spans[:2], *blink, *spans[4:]], {"redis-1": 5.5}) == 0.0
    # All were restarted, and another one was promoted in the same moment.
    late = [span.model_copy(update={"began": 6.2}) if span.began == 4 else span for span in spans]
    assert came_up_beside(late, {"redis-1": 5.5}) == 0.0
    # All were down, and one of them came up as the master.
    alone = [span for span in spans if span.node == "redis-1"]
    assert came_up_beside(alone, {"redis-1": 5.5}) == 0.0
