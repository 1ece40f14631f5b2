"""A whole host dies, with everything on it, and comes back. Positions survive, and are compared one by one."""

from __future__ import annotations

import time

import pytest

from drills.waiting import wait_until
from tests.stacks import Journal

from .conftest import TRADER_HOST
from .hosts import NUMBERS
from .swarm_stack import SwarmStack

pytestmark = [pytest.mark.long, pytest.mark.timeout(600, func_only=True)]


def check_exact(stack: SwarmStack, trader: int, known: dict, nodes: tuple[int, ...]) -> str:
    """Compare the node's record with each Redis node's; return the counts."""
    compared = stack.compare(trader, known, nodes)
    for node, comparison in compared.items():
        assert comparison.exact, f"redis-{node}: {comparison}:\n" + "\n".join(comparison.differences[:20])
        assert comparison.counts.positions > 10, f"redis-{node}: {comparison}"
    return "; ".join(f"redis-{node}: {comparison}" for node, comparison in compared.items())


def test_host_of_the_master_dies_and_comes_back(stack: SwarmStack, journal: Journal) -> None:
    dead = stack.master(TRADER_HOST)
    if dead == TRADER_HOST:
        dead = stack.fail_over(TRADER_HOST)
        stack.wait_until_whole(TRADER_HOST)
    survivors = tuple(number for number in NUMBERS if number != dead)
    process = stack.process(TRADER_HOST)
    known = stack.settled_record(TRADER_HOST)
    stack.wait_for_orders(TRADER_HOST, known)
    before = stack.report(TRADER_HOST)

    stack.hosts.kill(dead)
    killed_at = time.monotonic()
    assert not stack.hosts.runs(dead)
    wait_until(lambda: stack.master(TRADER_HOST) != dead, 60.0, "the Sentinels promote")
    promoted_s = time.monotonic() - killed_at
    master = stack.master(TRADER_HOST)
    wait_until(lambda: stack.serves(master), 60.0, "the new master has a replica")
    stack.wait_for_orders(TRADER_HOST, before, count=20)

    assert stack.process(TRADER_HOST) == process, "the node was restarted"
    exact = check_exact(stack, TRADER_HOST, before, survivors)
    journal.add(f"host {dead} (master) killed: promoted within {promoted_s:.1f} s; {exact}")

    stack.hosts.start(dead)
    started_at = time.monotonic()
    wait_until(lambda: stack.follows(dead, stack.master(TRADER_HOST)), 180.0, "the node of the host is a replica", 0.5)
    replica_s = time.monotonic() - started_at
    stack.wait_until_whole(TRADER_HOST)
    whole_s = time.monotonic() - started_at

    assert stack.process(TRADER_HOST) == process, "the node was restarted"
    exact = check_exact(stack, TRADER_HOST, before, NUMBERS)
    journal.add(f"host {dead} back: a replica after {replica_s:.1f} s, all whole after {whole_s:.1f} s; {exact}")


def test_changed_setting_reaches_one_node_after_the_other(stack: SwarmStack, journal: Journal) -> None:
    process = stack.process(TRADER_HOST)
    known = stack.settled_record(TRADER_HOST)
    began = time.monotonic()

    said = stack.deploy(TRADER_HOST, REDIS_MAXMEMORY="400mb")

    lasted_s = time.monotonic() - began
    assert [line for line in said.splitlines() if "Updating" in line] == [f"==> Updating redis-{n}" for n in NUMBERS]
    for number in NUMBERS:
        configured = stack.cli(f"redis-{number}", number, "CONFIG", "GET", "maxmemory").split()[-1]
        assert int(configured) == 400 * 1024**2
    stack.wait_until_whole(TRADER_HOST)
    stack.wait_for_orders(TRADER_HOST, known)
    assert stack.process(TRADER_HOST) == process, "the node was restarted"
    journal.add(f"rolling change in {lasted_s:.1f} s; {check_exact(stack, TRADER_HOST, known, NUMBERS)}")


def test_host_of_master_and_trader_dies_and_comes_back(stack: SwarmStack, journal: Journal) -> None:
    # Both at once: what had not reached a replica is in the journal alone, which comes back with the host.
    while stack.master(TRADER_HOST) != TRADER_HOST:
        stack.fail_over(TRADER_HOST)
        stack.wait_until_whole(TRADER_HOST)
    other = next(number for number in NUMBERS if number != TRADER_HOST)
    known = stack.settled_record(TRADER_HOST)
    stack.wait_for_orders(TRADER_HOST, known)
    _, _, started_ns = stack.process(TRADER_HOST)

    stack.hosts.kill(TRADER_HOST)
    wait_until(lambda: stack.master(other) != TRADER_HOST, 60.0, "the Sentinels promote")
    wait_until(lambda: stack.serves(stack.master(other)), 60.0, "the new master has a replica")
    stack.hosts.start(TRADER_HOST)
    began = time.monotonic()
    wait_until(lambda: stack.process(TRADER_HOST)[2] > started_ns, 240.0, "the trader starts again", 0.5)
    stack.wait_for_orders(TRADER_HOST, stack.report(TRADER_HOST), 120.0, 20)
    trades_s = time.monotonic() - began
    stack.wait_until_whole(other)

    exact = check_exact(stack, TRADER_HOST, known, NUMBERS)
    journal.add(f"host {TRADER_HOST} (master, trader) killed and back: trades after {trades_s:.1f} s; {exact}")


def test_trader_goes_to_another_host_without_its_journal(stack: SwarmStack, journal: Journal) -> None:
    target = next(number for number in NUMBERS if number != TRADER_HOST)
    if stack.master(target) == TRADER_HOST:
        stack.fail_over(target)
        stack.wait_until_whole(target)
    known = stack.settled_record(TRADER_HOST)

    stack.hosts.kill(TRADER_HOST)
    began = time.monotonic()
    stack.hosts.unlabel(TRADER_HOST, "redis-ha.trader", by=target)
    stack.hosts.label(target, "redis-ha.trader=yes")
    wait_until(lambda: stack.report(target, "--ping"), 240.0, "the trader runs on the other host", 0.5)
    stack.wait_for_orders(target, stack.report(target), 120.0, 20)
    trades_s = time.monotonic() - began

    survivors = tuple(number for number in NUMBERS if number != TRADER_HOST)
    exact = check_exact(stack, target, known, survivors)
    journal.add(f"host {TRADER_HOST} (trader) killed, trader on host {target}: trades after {trades_s:.1f} s; {exact}")

    # The old host must not start a second one.
    stack.hosts.start(TRADER_HOST)
    stack.wait_until_whole(target, 180.0)
    assert not stack.has("trader", TRADER_HOST)
    journal.add(f"all three hosts again; {check_exact(stack, target, known, NUMBERS)}")

    # A planned move, to a host that still has the journal of its earlier trader.
    stack.put_journal_aside(TRADER_HOST)
    stack.wait_for_orders(target, known)
    before = stack.report(target)
    began = time.monotonic()
    # Stopped first: by the labels alone Swarm starts the second one while the first one still stops: its link halts.
    stack.scale_trader(0, by=target)
    wait_until(lambda: not stack.has("trader", target), 60.0, "the trader has stopped", 0.5)
    stack.hosts.unlabel(target, "redis-ha.trader", by=target)
    stack.hosts.label(TRADER_HOST, "redis-ha.trader=yes")
    stack.scale_trader(1, by=target)
    wait_until(lambda: stack.report(TRADER_HOST, "--ping"), 240.0, "the trader runs on its first host again", 0.5)
    stack.wait_for_orders(TRADER_HOST, stack.report(TRADER_HOST), 120.0, 20)
    trades_s = time.monotonic() - began
    exact = check_exact(stack, TRADER_HOST, before, NUMBERS)
    journal.add(f"trader moved from host {target} to {TRADER_HOST}: trades after {trades_s:.1f} s; {exact}")
