"""What the tests of the stack compare, on the library that the drills use."""

from __future__ import annotations

import time
from typing import Any

from drills.faults import Fault
from drills.faults.nodes import KillMaster
from drills.records import compare_trader
from drills.runner import identity
from drills.stack import NODES, Promotion, Stack
from drills.waiting import wait_until


def check_nothing_lost(stack: Stack, known: dict[str, Any]) -> str:
    """Compare the node's own record with what every node of Redis holds, one by one; return the counts.

    ``known`` is the node's record from before the fault: nothing of it may be missing either.
    """
    compared = compare_trader(stack, known)
    assert compared.exact, f"{compared}:\n" + "\n".join(compared.differences[:20])
    assert compared.counts.positions, "no position was compared"
    assert compared.counts.orders, "no order was compared"
    return str(compared)


def fail_over(stack: Stack, kind: type[KillMaster] = KillMaster) -> tuple[Fault, Promotion, dict[str, Any]]:
    """Break the master while the node trades and wait until the next one takes its writes.

    Returns the fault, which the caller heals, how the failover went, and the node's record from before.
    """
    fault = kind(stack)
    fault.prepare()
    known = stack.report()
    process = identity(stack)
    stack.wait_for_writes(5)
    before = stack.link()
    fault_at = time.monotonic()
    fault.inject()
    promotion = stack.wait_for_promotion(fault.master, fault_at)
    assert fault.confirm()
    stack.wait_for_writes_on(promotion.master)
    link = stack.link()
    assert link["master_changes"] > before["master_changes"], "the link noticed nothing"
    in_flight = ("told_early", "lost_replies", "replayed")
    assert sum(link[name] - before[name] for name in in_flight), "no write was in flight or waited"
    assert link["master"].startswith(stack.ip(promotion.master) + ":"), link["master"]
    assert identity(stack) == process, "the node was restarted"
    assert new_orders(stack, known), "the node made no order during the fault"
    return fault, promotion, known


def new_orders(stack: Stack, known: dict[str, Any]) -> int:
    """How many orders the node has made since ``known``: by name, because meanwhile it forgets old ones."""
    return len(stack.report()["orders"].keys() - known["orders"].keys())


def wait_until_replica(stack: Stack, node: str, seconds: float = 60.0) -> None:
    """Wait until a node replicates from the current master with its link up."""

    def follows() -> bool:
        info = stack.client(node).info("replication")
        return (
            info["role"] == "slave"
            and info["master_host"] == stack.ip(stack.master())
            and info["master_link_status"] == "up"
        )

    wait_until(follows, seconds, f"{node} follows the master")


def others(node: str) -> list[str]:
    return [other for other in NODES if other != node]
