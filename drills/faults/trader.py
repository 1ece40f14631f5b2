"""The trading node dies, alone or with everything around it."""

from __future__ import annotations

from drills.stack import NODES, SENTINELS
from drills.waiting import wait_until

from .base import FAILOVER, Fault

#: Orders that the node makes while nothing can be stored, before it dies.
_ORDERS = 10
#: Batches that the link takes from the node after its record was read: then what it knew is in the link's journal.
_BATCHES = 3


class TraderKilledInOutage(Fault):
    """All of Redis and the Sentinels die, the node trades on, and is killed before any of it has been stored.

    What it knew by then is in the journal of its link alone.
    """

    name = "trader-killed-in-outage"
    summary = "all of Redis is down, the node trades on and is killed; only the link's journal has what it did"
    #: Whichever the Sentinels name when everything starts.
    changes_master = None
    resumes_unhealed = False
    restarts_trader = True

    def inject(self) -> None:
        """Kill all of Redis."""
        self.stack.kill(*SENTINELS, *NODES)

    def confirm(self) -> str:
        """Let the node trade on, take its record, and kill it once its link has what it knew."""
        stack = self.stack
        wait_until(stack.holding, FAILOVER, "the link holds writes")
        orders = set(stack.report()["orders"])
        wait_until(
            lambda: len(stack.report()["orders"].keys() - orders) >= _ORDERS,
            FAILOVER,
            "the node trades on while Redis is down",
            1.0,
        )
        self.known = stack.report()
        accepted = stack.link()["accepted"]
        wait_until(lambda: stack.link()["accepted"] >= accepted + _BATCHES, FAILOVER, "the link takes what it knew")
        unfinished = stack.link()["unfinished"]
        stack.kill("trader")
        wait_until(lambda: not stack.running("trader"), FAILOVER, "the trader is dead")
        made = len(self.known["orders"].keys() - orders)
        return (
            f"no Redis node and no Sentinel runs; the node made {made} more orders, {unfinished} writes were in the "
            "link's journal alone, and then it was killed"
        )

    def heal(self) -> None:
        """Start everything."""
        self.stack.ensure_running(*self.stack.services)


class StackKilled(Fault):
    """SIGKILL of all containers in one moment, and all are started again at once: the host has rebooted."""

    name = "stack-killed"
    summary = "all containers are killed in one moment and started again at once"
    #: Whichever the Sentinels name when everything starts.
    changes_master = None
    restarts_trader = True

    def prepare(self) -> None:
        """Remember which processes there are."""
        self._started = self.stack.start_times()

    def inject(self) -> None:
        """Kill everything, start everything."""
        self.stack.kill(*self.stack.services)
        self.stack.start(*self.stack.services)

    def confirm(self) -> str:
        """Wait until the link of the new node applies writes."""
        now = self.stack.start_times()
        kept = [service for service in self.stack.services if now[service] == self._started[service]]
        if kept:
            raise RuntimeError(f"not killed: {', '.join(kept)}")
        wait_until(lambda: self.stack.link()["state"] == "ready", FAILOVER, "the link applies writes again")
        killed = ", ".join(self.stack.services)
        return f"all of {killed} are new processes; the link applies writes to {self.stack.master()}"

    def heal(self) -> None:
        """Start whatever is still down."""
        self.stack.ensure_running(*self.stack.services)


FAULTS: tuple[type[Fault], ...] = (TraderKilledInOutage, StackKilled)
