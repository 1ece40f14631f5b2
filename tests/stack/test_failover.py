"""What the drills do not show of a failover: the node that starts, stops and is judged while Redis is away."""

from __future__ import annotations

import statistics

import pytest

from drills.faults.sentinels import TwoSentinelsGone
from drills.runner import identity
from drills.stack import NODES, SENTINELS, Stack
from drills.waiting import wait_until
from tests.stacks import Journal

from .checks import check_nothing_lost, fail_over, new_orders


@pytest.fixture(autouse=True)
def _trading(stack: Stack) -> None:
    """Every test of this file needs a node that trades."""
    stack.wait_for_writes(5)


def test_node_restarted_after_a_failover_loads_what_it_had(stack: Stack, journal: Journal) -> None:
    fault, _, _ = fail_over(stack)
    fault.heal()
    stack.heal()
    own = stack.report("--quiesce")
    first = identity(stack)
    stack.stop("trader")
    assert stack.inspect_container("trader")["State"]["ExitCode"] == 0
    stack.start("trader")
    stack.heal()
    assert identity(stack) != first
    journal.add(f"restart of the node after a failover: {check_nothing_lost(stack, own)}")


@pytest.mark.long
def test_three_kills_in_a_row(stack: Stack, journal: Journal) -> None:
    times = []
    for _ in range(3):
        fault, promotion, known = fail_over(stack)
        times.append(promotion.first_write)
        fault.heal()
        stack.heal()
        check_nothing_lost(stack, known)
    shown = ", ".join(f"{seconds:.2f}" for seconds in sorted(times))
    journal.add(f"kill to first write on the new master: median {statistics.median(times):.2f} s of {shown}")
    assert max(times) < 15


def test_node_that_is_held_is_healthy(stack: Stack) -> None:
    fault = TwoSentinelsGone(stack)
    try:
        fault.prepare()
        fault.inject()
        wait_until(stack.holding, 30, "the link holds writes")
        # One batch is on its way; the others wait in Nautilus, which sends them one after another.
        known = stack.report()
        wait_until(lambda: new_orders(stack, known) > 20, 30, "the node trades on while it is held")
        assert stack.healthy("trader")
    finally:
        fault.heal()


def test_trader_stops_cleanly_while_redis_is_down(stack: Stack, journal: Journal) -> None:
    stack.kill(*SENTINELS)
    stack.kill(*NODES)
    wait_until(stack.holding, 30, "the link holds writes")
    before = stack.report()
    wait_until(lambda: new_orders(stack, before) > 20, 30, "the node trades on while Redis is down")
    known = stack.report()
    stack.stop("trader", 20)
    state = stack.inspect_container("trader")["State"]
    assert state["ExitCode"] == 0, f"exit status {state['ExitCode']}"
    assert "writes in the journal" in stack.logs("trader")
    stack.heal()
    stack.wait_for_writes()
    journal.add(f"stop while Redis is down, start again: {check_nothing_lost(stack, known)}")
