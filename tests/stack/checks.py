"""What every failover test of the stack compares."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drills.stack import NODES, Stack
from drills.waiting import wait_until
from trader_node.compare import differences, missing

SECTIONS = ("positions", "orders", "accounts")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The node's process: unchanged means that it was not restarted."""

    container_started: str
    restarts: int
    pid: int
    started_ns: int


def node_identity(stack: Stack, report: dict[str, Any]) -> NodeIdentity:
    container = stack.inspect_container("trader")
    return NodeIdentity(container["State"]["StartedAt"], container["RestartCount"], report["pid"], report["started_ns"])


def check_nothing_lost(stack: Stack, before: dict[str, Any], node: str) -> str:
    """Compare the node's own record with what a node of Redis holds, one by one; return the counts.

    ``before`` is the node's record from before the fault: nothing of it may be missing either.
    """
    own = stack.report("--quiesce")
    try:
        held = stack.in_redis(node)
    finally:
        stack.report("--resume")
    found = differences(own, held)
    assert not found, f"{len(found)} differences between the node and {node}:\n" + "\n".join(found[:20])
    for section in SECTIONS:
        assert not missing(before, held, section), f"{section} known before the fault are gone"
    assert own["positions"], "no position was compared"
    assert own["orders"], "no order was compared"
    assert len(own["orders"]) > len(before["orders"]), "the node made no order during the fault"
    fills = sum(len(position["events"]) for position in own["positions"].values())
    return (
        f"{len(own['positions'])} positions with {fills} fills, {len(own['orders'])} orders, "
        f"{len(own['accounts'])} accounts compared, 0 lost"
    )


def fail_over(
    stack: Stack, name: str, break_master: Callable[[str], None], say: Callable[[str], None]
) -> tuple[str, str]:
    """Break the master while the node trades, wait for the next one, compare; return old and new master."""
    old = stack.master()
    before = stack.report()
    identity = node_identity(stack, before)
    stack.wait_for_writes(5)
    at_fault = stack.link()
    fault_at = time.monotonic()
    break_master(old)
    assert not stack.running(old) or not stack.connected(old), "no fault took effect"
    promotion = stack.wait_for_promotion(old, fault_at)
    assert promotion.master != old, "no fault took effect"
    stack.wait_for_writes_on(promotion.master)
    link = stack.link()
    assert link["master_changes"] > at_fault["master_changes"], "the link noticed nothing"
    in_flight = link["told_early"] + link["lost_replies"] + link["replayed"]
    before_fault = at_fault["told_early"] + at_fault["lost_replies"] + at_fault["replayed"]
    assert in_flight > before_fault, "no write was in flight or waited when the master broke"
    assert link["master"].startswith(stack.ip(promotion.master) + ":"), link["master"]
    counts = check_nothing_lost(stack, before, promotion.master)
    assert node_identity(stack, stack.report()) == identity, "the node was restarted"
    say(f"{name}: {old} -> {promotion.master}, first write {promotion.first_write:.2f} s after the fault; {counts}")
    return old, promotion.master


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
