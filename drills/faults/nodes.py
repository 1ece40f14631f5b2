"""Redis nodes that die or hang."""

from __future__ import annotations

from drills.stack import NODES, SENTINELS
from drills.waiting import wait_until

from .base import FAILOVER, Fault

#: Longer than any drill.
_PATIENT_MS = 300_000


class KillMaster(Fault):
    """SIGKILL of the master; later it comes back as a replica."""

    name = "kill-master"
    summary = "the master is killed"

    def inject(self) -> None:
        """Kill it."""
        self.stack.kill(self.master)

    def heal(self) -> None:
        """Start it again."""
        self.stack.ensure_running(self.master)


class KillMasterAndSentinel(KillMaster):
    """SIGKILL of the master and of one Sentinel in one moment: the other two still have a majority."""

    name = "kill-master-and-sentinel"
    summary = "the master and one Sentinel are killed in one moment"

    def prepare(self) -> None:
        """Choose the Sentinel."""
        self._sentinel = self.random.choice(SENTINELS)

    def inject(self) -> None:
        """Kill both."""
        self.stack.kill(self.master, self._sentinel)

    def heal(self) -> None:
        """Start both again."""
        self.stack.ensure_running(self.master, self._sentinel)


class FreezeMaster(Fault):
    """All processes of the master's container stop without ending; it is thawed when everything else is well again."""

    name = "freeze-master"
    summary = "the master hangs: its connections stay open and silent"

    def inject(self) -> None:
        """Freeze it."""
        self.stack.pause(self.master)

    def heal(self) -> None:
        """Thaw it: what waits in its sockets runs now."""
        self.stack.ensure_thawed(self.master)


class FreezeBriefly(FreezeMaster):
    """The master hangs for longer than the links wait for an answer, and goes on before anybody replaces it.

    What they had sent still waits in its sockets when they send it again: only the fence keeps it from being applied
    twice. The Sentinels are made patient for as long.
    """

    name = "freeze-briefly"
    summary = "the master hangs until the links have given up their connections, and goes on without a failover"
    changes_master = False
    resumes_unhealed = False

    def prepare(self) -> None:
        """Keep the Sentinels from a failover."""
        self._down_after = {sentinel: self.stack.seen_by(sentinel)["down-after-milliseconds"] for sentinel in SENTINELS}
        for sentinel in SENTINELS:
            self.stack.set_down_after(sentinel, _PATIENT_MS)

    def confirm(self) -> str:
        """Wait until the trader's link has given its connection up."""
        wait_until(self.stack.holding, FAILOVER, "the link gives up the connection", 0.02)
        self.linger(self.random.uniform(0.3, 1.5))
        return f"{self.master} hung, and the trader's link gave its connection up"

    def heal(self) -> None:
        """Thaw it, and make the Sentinels as impatient as before."""
        super().heal()
        for sentinel, milliseconds in self._down_after.items():
            self.stack.set_down_after(sentinel, int(milliseconds))


class FreezeAndThaw(FreezeMaster):
    """The master hangs for longer than the failover takes, and goes on under full traffic as the master it was."""

    name = "freeze-longer-than-failover"
    summary = "the master hangs until another is promoted, then goes on and believes that it is the master still"

    def confirm(self) -> str:
        """Wait for the promotion, thaw the old master and wait until it follows the new one."""
        promoted = self.confirm_promotion()
        self.linger(self.random.uniform(0.2, 1.5))
        self.stack.unpause(self.master)
        wait_until(lambda: self.stack.role(self.master) == "slave", FAILOVER, f"{self.master} becomes a replica", 0.05)
        return f"{promoted}; {self.master} was thawed and became a replica"


class TwoFailovers(KillMaster):
    """The master is killed, and as soon as another one takes writes, that one is killed as well."""

    name = "two-failovers"
    summary = "the master is killed, comes back, and its successor is killed right away"
    #: The second one may well go back to the first master.
    changes_master = None

    def confirm(self) -> str:
        """Wait for the first failover, start the old master, kill the second."""
        first = self.confirm_promotion()
        self._second = self.stack.promoted(self.master)
        self.stack.ensure_running(self.master)
        # Without a replica that has a copy of the data there is nobody to fail over to.
        wait_until(lambda: self.stack.has_replicas(self._second, 2), FAILOVER, "both replicas follow", 0.05)
        self.stack.kill(self._second)
        wait_until(lambda: self.stack.promoted(self._second), FAILOVER, "the second failover", 0.02)
        return f"{first}, then {self.stack.promoted(self._second)} in place of {self._second}"

    def heal(self) -> None:
        """Start both again."""
        self.stack.ensure_running(*NODES)


class ReplicaKilled(Fault):
    """SIGKILL of one replica: the other one is enough for ``min-replicas-to-write``, so nobody may notice."""

    name = "replica-killed"
    summary = "one replica is killed; the master goes on with the other, and nobody waits"
    changes_master = False
    interrupts_writes = False
    interrupts_trader = False

    def prepare(self) -> None:
        """Choose the replica."""
        self._replica = self.random.choice(self.replicas)

    def inject(self) -> None:
        """Kill it."""
        self.stack.kill(self._replica)

    def confirm(self) -> str:
        """Wait until the master has lost it, and takes writes nevertheless."""
        client = self.stack.client(self.master)
        wait_until(
            lambda: client.info("replication")["connected_slaves"] == 1, FAILOVER, f"{self.master} misses a replica"
        )
        self.stack.wait_for_writes_on(self.master)
        return f"{self.master} has one replica left, without {self._replica}, and takes writes"

    def heal(self) -> None:
        """Start it again."""
        self.stack.ensure_running(self._replica)


FAULTS: tuple[type[Fault], ...] = (
    KillMaster,
    KillMasterAndSentinel,
    FreezeMaster,
    FreezeBriefly,
    FreezeAndThaw,
    TwoFailovers,
    ReplicaKilled,
)
