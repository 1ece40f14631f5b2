"""The master dies, hangs or is cut off while the node trades: no position, order or account state is lost."""

from __future__ import annotations

import statistics

import pytest

from drills.stack import NODES, SENTINELS, Stack
from drills.waiting import wait_until
from trader_node.compare import differences

from .checks import check_nothing_lost, fail_over, node_identity, others, wait_until_replica
from .conftest import Journal


def test_killed_master(stack: Stack, journal: Journal) -> None:
    old, new = fail_over(stack, "kill", stack.kill, journal.add)
    stack.start(old)
    wait_until_replica(stack, old)
    assert stack.master() == new
    # Restart the node and compare what it loaded with what it had.
    own = stack.report("--quiesce")
    first = node_identity(stack, own)
    stack.stop("trader")
    assert stack.inspect_container("trader")["State"]["ExitCode"] == 0
    stack.start("trader")
    wait_until(lambda: stack.report()["pid"], 30, "the node reports again")
    loaded = stack.report("--quiesce")
    held = stack.in_redis(new)
    stack.report("--resume")
    assert node_identity(stack, loaded) != first
    for section in ("positions", "orders"):
        for key, record in own[section].items():
            again = loaded[section].get(key)
            assert again is not None, f"{section}/{key} was not reloaded"
            assert again["events"][: len(record["events"])] == record["events"], f"{section}/{key} has other events"
    assert not differences(loaded, held)
    journal.add(f"restart of the node: {len(own['positions'])} positions, {len(own['orders'])} orders reloaded, 0 lost")


def test_five_kills_in_a_row(stack: Stack, journal: Journal) -> None:
    times = []
    for _ in range(5):
        lines: list[str] = []
        old, _ = fail_over(stack, "kill", stack.kill, lines.append)
        times.append(float(lines[0].split("first write ")[1].split(" s")[0]))
        stack.start(old)
        stack.heal()
        journal.add(lines[0])
    journal.add(f"kill to first write on the new master: median {statistics.median(times):.2f} s of {sorted(times)}")
    assert max(times) < 15


def test_frozen_master(stack: Stack, journal: Journal) -> None:
    old, new = fail_over(stack, "freeze", stack.pause, journal.add)
    before = stack.report()
    # What still waited in the frozen master's sockets runs now, and must not count.
    stack.unpause(old)
    wait_until_replica(stack, old)
    assert stack.master() == new
    journal.add(f"thaw: {check_nothing_lost(stack, before, new)}")
    check_nothing_lost(stack, before, old)


def test_partitioned_master(stack: Stack, journal: Journal) -> None:
    old, new = fail_over(stack, "partition", stack.disconnect, journal.add)
    before = stack.report()
    stack.connect(old)
    wait_until_replica(stack, old)
    assert stack.master() == new
    check_nothing_lost(stack, before, old)


def test_killed_replica(stack: Stack) -> None:
    master = stack.master()
    before = stack.report()
    replica = others(master)[0]
    stack.kill(replica)
    assert not stack.running(replica)
    stack.wait_for_writes()
    assert stack.master() == master
    check_nothing_lost(stack, before, master)
    stack.start(replica)
    wait_until_replica(stack, replica)
    check_nothing_lost(stack, before, replica)


def test_killed_sentinel_and_master(stack: Stack, journal: Journal) -> None:
    stack.kill("sentinel-1")
    fail_over(stack, "one Sentinel gone, kill", stack.kill, journal.add)


def test_without_quorum_the_node_holds_until_a_sentinel_returns(stack: Stack, journal: Journal) -> None:
    stack.kill(*SENTINELS[:2])
    old = stack.master()
    before = stack.report()
    identity = node_identity(stack, before)
    stack.wait_for_writes()
    stack.kill(old)
    wait_until(lambda: _holding(stack), 30, "the link holds writes")
    # One batch is on its way; the others wait in Nautilus, which sends them one after another.
    orders = len(stack.report()["orders"])
    wait_until(lambda: len(stack.report()["orders"]) > orders + 20, 30, "the node trades on while it is held")
    assert all(stack.role(node) == "slave" for node in others(old)), "promoted without a quorum"
    assert stack.healthy("trader"), "a node that holds is healthy"
    stack.start(SENTINELS[0])
    wait_until(lambda: stack.master() != old, 60, "the failover")
    new = stack.master()
    stack.wait_for_writes_on(new)
    counts = check_nothing_lost(stack, before, new)
    assert node_identity(stack, stack.report()) == identity, "the node was restarted"
    journal.add(f"two Sentinels gone, kill: held until a Sentinel returned; {counts}")


def _all_of_redis_down(stack: Stack) -> None:
    stack.kill(*SENTINELS)
    stack.kill(*NODES)
    wait_until(lambda: _holding(stack), 30, "the link holds writes")


def test_trader_stops_cleanly_while_redis_is_down(stack: Stack, journal: Journal) -> None:
    _all_of_redis_down(stack)
    orders = len(stack.report()["orders"])
    wait_until(lambda: len(stack.report()["orders"]) > orders + 20, 30, "the node trades on while Redis is down")
    known = stack.report()
    stack.stop("trader", 20)
    state = stack.inspect_container("trader")["State"]
    assert state["ExitCode"] == 0, f"exit status {state['ExitCode']}"
    assert "writes in the journal" in stack.logs("trader")
    stack.heal()
    stack.wait_for_writes()
    held = check_nothing_lost(stack, known, stack.master())
    journal.add(f"stop while Redis is down, start again: {held}")


def test_trader_killed_while_redis_is_down(stack: Stack, journal: Journal) -> None:
    """What the node knew a moment before it died is in the link's journal."""
    _all_of_redis_down(stack)
    orders = len(stack.report()["orders"])
    wait_until(lambda: len(stack.report()["orders"]) > orders + 20, 30, "the node trades on while Redis is down")
    known = stack.report()
    accepted = stack.link()["accepted"]
    # Nautilus' buffer of 100 ms, and the time until the link answers from its journal, twice.
    wait_until(lambda: stack.link()["accepted"] >= accepted + 3, 30, "the link took what the node knew")
    stack.kill("trader")
    stack.heal()
    stack.wait_for_writes()
    held = check_nothing_lost(stack, known, stack.master())
    journal.add(f"trader killed while Redis is down, start again: {held}")


def _holding(stack: Stack) -> bool:
    link = stack.link()
    return link["state"] == "holding" and link["unfinished"] > 0


@pytest.fixture(autouse=True)
def _trading(stack: Stack) -> None:
    """Every test of this file needs a node that trades."""
    stack.wait_for_writes(5)
