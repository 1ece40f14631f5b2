"""Maintenance as an operator does it: one container after the other, and the master last, after a switchover."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from .stack import MASTER_NAME, NODES, SENTINELS, Stack
from .waiting import wait_until

#: Seconds for a switchover, and for the stack to be whole again after one step.
_SWITCHOVER = 60.0
_WHOLE = 120.0


def switch_over(stack: Stack, sentinel: str) -> str:
    """Have a Sentinel hand the master's role over while everything is well; return the new master.

    Returns when the Sentinels name another node and the old master follows it.

    Raises
    ------
    TimeoutError
        If no Sentinel begins, or nothing comes of it.

    """
    old = stack.master()

    def begun() -> bool:
        # It refuses while an earlier failover has not been closed, and where no replica has answered lately.
        return stack.client(sentinel).execute_command("SENTINEL", "FAILOVER", MASTER_NAME) in ("OK", True)

    wait_until(begun, _SWITCHOVER, f"{sentinel} begins a switchover", 0.1)
    wait_until(lambda: stack.promoted(old), _SWITCHOVER, f"another master than {old}", 0.02)
    wait_until(lambda: stack.role(old) == "slave", _SWITCHOVER, f"{old} becomes a replica", 0.05)
    return stack.promoted(old)


def roll(stack: Stack, services: Collection[str], renew: Callable[[str], None]) -> Iterator[str]:
    """Renew services one by one and wait after each until the stack is whole; yields what was done.

    Replicas first, then a switchover, then the node that was the master, the Sentinels, and whatever else at the end.
    """
    master = stack.master()
    for node in (*(node for node in NODES if node != master), master):
        if node not in services:
            continue
        if node == master:
            successor = switch_over(stack, SENTINELS[0])
            wait_until_whole(stack, f"the switchover to {successor}")
            yield f"switchover from {master} to {successor}"
        renew(node)
        wait_until_whole(stack, node)
        yield node
    for service in (*SENTINELS, *sorted(set(services) - {*NODES, *SENTINELS})):
        if service in services:
            renew(service)
            wait_until_whole(stack, service)
            yield service


def wait_until_whole(stack: Stack, after: str) -> None:
    """Wait until the next step may begin: redundancy is complete, every container healthy, the link applies writes."""

    def ready() -> bool:
        return stack.whole() and stack.all_healthy() and stack.link()["state"] == "ready"

    wait_until(ready, _WHOLE, f"the stack is whole after {after}", 0.3)
