"""Faults, each with a way to inject it, to tell that it took effect, and to heal it exactly.

The order of calls is ``prepare`` (nothing is broken yet), ``inject`` (at once), ``confirm`` (wait until the fault is
seen to work), ``heal``, ``confirm_after``. ``heal`` is called whatever happened after ``prepare``.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from .appender import Appenders
from .network import Network
from .processes import MASTER_NAME, Cluster, LinkProcess, freeze, sentinel_replicas, thaw
from .waiting import wait_until

#: Seconds in which a failover, with all its retries on a busy machine, must be over.
_FAILOVER = 45.0


@dataclass(slots=True)
class Scene:
    """What a nemesis may break, and the traffic that runs meanwhile."""

    cluster: Cluster
    link: LinkProcess
    network: Network
    appenders: Appenders
    random: random.Random
    #: A folder for what a nemesis puts aside.
    folder: Path

    def traffic(self, seconds: float) -> None:
        """Let the traffic run. The duration is part of the fault: there is no condition to wait for."""
        time.sleep(seconds)


class Nemesis(ABC):
    """One kind of fault; an instance is used once."""

    name = ""
    #: Whether another node must be master afterwards, and the link must have noticed.
    changes_master = True
    #: Whether the link must have made a new connection.
    reconnects = True
    #: Whether the link process ends: only then may a client's connection break.
    ends_link = False

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.cluster = scene.cluster
        self.link = scene.link
        self.master = scene.cluster.master()

    def prepare(self) -> None:  # noqa: B027 # most have nothing to prepare
        """Get everything ready; nothing is broken yet."""

    @abstractmethod
    def inject(self) -> None:
        """Break it, at once."""

    def confirm(self) -> None:
        """Wait until the fault has taken effect. Raises ``TimeoutError`` if it does not."""
        if self.changes_master:
            self.cluster.wait_for_other_master(self.master, _FAILOVER)

    @abstractmethod
    def heal(self) -> None:
        """Repair it, to the state of before."""

    def confirm_after(self, before: dict[str, Any], after: dict[str, Any]) -> str:
        """Return what the link's status should show and does not, or nothing."""
        return ""

    def _host(self, port: int) -> str:
        return self.cluster.hosts[port]

    def _others(self) -> list[int]:
        return [port for port in self.cluster.node_ports if port != self.master]

    def _sentinel(self, *arguments: str) -> None:
        """Ask any Sentinel to do something. Raises ``RedisError`` if the last of them does not either."""
        ports = self.cluster.sentinel_ports
        for port in ports:
            try:
                self.cluster.client(port).execute_command("SENTINEL", *arguments)
            except RedisError:
                if port == ports[-1]:
                    raise
            else:
                return


class Kill(Nemesis):
    """SIGKILL of the master; later it comes back as a replica."""

    name = "kill"

    def inject(self) -> None:
        """Break it."""
        self.cluster.nodes[self.master].kill()

    def heal(self) -> None:
        """Start it again."""
        if not self.cluster.nodes[self.master].running:
            self.cluster.restart(self.master)


class KillReturnsAsMaster(Kill):
    """SIGKILL of the master; later it comes back and believes that it is the master still."""

    name = "kill, back as master"

    def heal(self) -> None:
        """Start it again without asking anybody."""
        if not self.cluster.nodes[self.master].running:
            self.cluster.restart(self.master, ask=False)


class Freeze(Nemesis):
    """SIGSTOP of the master for longer than the failover takes, then SIGCONT."""

    name = "freeze"

    def inject(self) -> None:
        """Break it."""
        freeze(self.cluster.nodes[self.master])

    def heal(self) -> None:
        """Thaw it: what waits in its sockets runs now."""
        thaw(self.cluster.nodes[self.master])


class _Patient(Nemesis):
    """A fault that the Sentinels are kept from answering with a failover."""

    changes_master = False

    def prepare(self) -> None:
        """Make the Sentinels patient."""
        self.cluster.set_down_after(60_000)

    def heal(self) -> None:
        """Make them as impatient as before."""
        self.cluster.set_down_after(self.cluster.down_after_ms)


class BriefFreeze(_Patient):
    """SIGSTOP of the master, long enough for the link to give the connection up, too short for a failover.

    The bytes that wait at the frozen master are run after the link is back.
    """

    name = "brief freeze"

    def inject(self) -> None:
        """Break it."""
        freeze(self.cluster.nodes[self.master])

    def confirm(self) -> None:
        """Wait until the link holds."""
        wait_until(
            lambda: self.link.status()["state"] == "holding", _FAILOVER, "the link gives up the connection", 0.02
        )
        self.scene.traffic(self.scene.random.uniform(0.0, 0.7))

    def heal(self) -> None:
        """Thaw it."""
        thaw(self.cluster.nodes[self.master])
        super().heal()


class InstantRestart(_Patient):
    """SIGKILL of the master, and a start right away: it is the master again."""

    name = "instant restart"

    def inject(self) -> None:
        """Break it."""
        self.cluster.nodes[self.master].kill()
        self.cluster.restart(self.master, ask=False)

    def confirm(self) -> None:
        """Wait until it serves again."""
        wait_until(lambda: self.cluster.client(self.master, 0.5).ping(), _FAILOVER, "the master serves", 0.02)

    def heal(self) -> None:
        """Start it if it is down."""
        if not self.cluster.nodes[self.master].running:
            self.cluster.restart(self.master, ask=False)
        super().heal()


class RollBack(_Patient):
    """The master dies and comes back, as master, on an append-only file from some seconds before."""

    name = "older AOF"

    def prepare(self) -> None:
        """Put a copy of its files aside and let the traffic go on."""
        super().prepare()
        self._copy = self.scene.folder / "older-aof"
        self.cluster.copy_data(self.master, self._copy)
        self.scene.traffic(self.scene.random.uniform(1.0, 4.0))

    def inject(self) -> None:
        """Break it."""
        self.cluster.nodes[self.master].kill()
        self.cluster.replace_data(self.master, self._copy)
        self.cluster.restart(self.master, ask=False)

    def confirm(self) -> None:
        """Wait until it serves again."""
        wait_until(lambda: self.cluster.client(self.master, 0.5).ping(), _FAILOVER, "the master serves", 0.02)

    def heal(self) -> None:
        """Start it if it is down."""
        if not self.cluster.nodes[self.master].running:
            self.cluster.restart(self.master, ask=False)
        shutil.rmtree(self._copy, ignore_errors=True)
        super().heal()

    def confirm_after(self, before: dict[str, Any], after: dict[str, Any]) -> str:
        """Nothing was rolled back unless the link had to replay."""
        return "" if after["replayed"] > before["replayed"] else "the link had nothing to replay"


class RollBackLinkKilled(RollBack):
    """The master comes back on an older append-only file, and the link is killed when it has begun to replay."""

    name = "older AOF, link killed"
    ends_link = True

    def confirm(self) -> None:
        """Wait until the master serves, kill the link, start it and wait until it applies writes."""
        super().confirm()
        self.scene.traffic(self.scene.random.uniform(0.0, 0.2))
        self.link.kill()
        self.link.start()
        self.link.wait_until_ready(_FAILOVER)

    def heal(self) -> None:
        """Start what is down."""
        if not self.link.running:
            self.link.start()
        super().heal()

    def confirm_after(self, before: dict[str, Any], after: dict[str, Any]) -> str:
        """Compare the numbers of starts; what the link that was killed had replayed nobody knows."""
        started = after["journal"]["incarnation"] > before["journal"]["incarnation"]
        return "" if started else "the link was not started again"


class ReplicasFrozen(Nemesis):
    """Both replicas are frozen: a master that needs one refuses to write, and goes on when they are thawed."""

    name = "replicas frozen"
    changes_master = False
    reconnects = False

    def prepare(self) -> None:
        """Have the master insist on a replica."""
        self._min_replicas = self.cluster.min_replicas
        self.cluster.set_min_replicas(1)

    def inject(self) -> None:
        """Break it."""
        for port in self._others():
            freeze(self.cluster.nodes[port])

    def confirm(self) -> None:
        """Wait until the master refuses writes."""
        wait_until(lambda: self.link.status()["state"] == "holding", _FAILOVER, "the master refuses writes", 0.02)
        self.scene.traffic(self.scene.random.uniform(0.0, 1.0))

    def heal(self) -> None:
        """Thaw them."""
        for port in self._others():
            thaw(self.cluster.nodes[port])
        self.cluster.set_min_replicas(self._min_replicas)


class _Partition(Nemesis):
    def heal(self) -> None:
        """Join the network again."""
        self.scene.network.heal()


class MasterAlone(_Partition):
    """The master's host is cut off from the other hosts and from the link."""

    name = "partition: master alone"

    def inject(self) -> None:
        """Break it."""
        self.scene.network.separate([self._host(self.master)])


class MasterWithLink(_Partition):
    """The master's host and the link are cut off together: the link goes on with a master that is being replaced."""

    name = "partition: master with link"

    def inject(self) -> None:
        """Break it."""
        self.scene.network.separate([self._host(self.master), "link"])

    def confirm(self) -> None:
        """Wait until the other side has a master of its own, and go on with two for a while."""
        super().confirm()
        self.scene.traffic(self.scene.random.uniform(0.2, 1.5))


class LinkAlone(_Partition):
    """The link is cut off from all nodes and Sentinels, both ways."""

    name = "partition: link alone"
    changes_master = False

    def inject(self) -> None:
        """Break it."""
        self.scene.network.separate(["link"])

    def confirm(self) -> None:
        """Wait until the link holds, and a while."""
        wait_until(lambda: self.link.status()["state"] == "holding", _FAILOVER, "the link holds", 0.02)
        self.scene.traffic(self.scene.random.uniform(0.0, 2.5))


class AnswersOnly(LinkAlone):
    """What the nodes send to the link is dropped; what the link sends arrives, and is applied."""

    name = "partition: answers only"

    def inject(self) -> None:
        """Break it."""
        self.scene.network.cut({(self._host(port), "link") for port in self.cluster.node_ports})


class RequestsLost(LinkAlone):
    """What the link sends to the nodes is dropped.

    The kernel goes on sending what the link's old connection had written: after the healing it arrives late, behind
    the handshake of a newer connection.
    """

    name = "partition: requests lost"

    def inject(self) -> None:
        """Break it."""
        self.scene.network.cut({("link", self._host(port)) for port in self.cluster.node_ports})

    def confirm(self) -> None:
        """Wait until the kernel's pauses between its attempts are longer than the link's between its own."""
        super().confirm()
        self.scene.traffic(self.scene.random.uniform(1.0, 4.0))


class ForcedFailover(Nemesis):
    """``SENTINEL FAILOVER`` while everything is well."""

    name = "forced failover"

    def inject(self) -> None:
        """Break it."""
        self._sentinel("FAILOVER", MASTER_NAME)

    def heal(self) -> None:
        """Nothing is broken."""


class TwoFailovers(Kill):
    """The master is killed, and as soon as there is another one, that one is replaced as well."""

    name = "two failovers in a row"

    def confirm(self) -> None:
        """Wait for the first failover, and force the second."""
        self._second = self.cluster.wait_for_other_master(self.master, _FAILOVER)

        def forced() -> bool:
            self._sentinel("FAILOVER", MASTER_NAME)
            return True

        wait_until(forced, _FAILOVER, "the Sentinels begin a second failover", 0.05)
        self.cluster.wait_for_other_master(self._second, _FAILOVER)


class LaggingReplica(Kill):
    """A replica that has missed the last seconds is promoted, though another one has everything."""

    name = "lagging replica promoted"

    def prepare(self) -> None:
        """Have one replica promoted only if there is no other, and cut the other one off from the master."""
        self._current, self._lagging = self.scene.random.sample(self._others(), 2)
        self.cluster.client(self._current).config_set("replica-priority", 0)
        wait_until(self._known, _FAILOVER, "the Sentinels know the priority", 0.05)
        self.scene.network.cut({(self._host(self.master), self._host(self._lagging))})
        # Less than a Sentinel allows a replica to have been without its master: down-after x 10.
        self.scene.traffic(self.scene.random.uniform(1.0, 2.5))

    def _known(self) -> bool:
        return all(
            int(replica["slave-priority"]) == 0
            for port in self.cluster.sentinel_ports
            for replica in sentinel_replicas(self.cluster.client(port))
            if int(replica["port"]) == self._current
        )

    def confirm(self) -> None:
        """Wait until the one that lags is master."""
        promoted = self.cluster.wait_for_other_master(self.master, _FAILOVER)
        if promoted != self._lagging:
            raise TimeoutError("the replica that has everything was promoted")

    def heal(self) -> None:
        """Join the network, restore the priority, start the old master."""
        # Not before the promotion: the kernel would deliver what the dead master had sent.
        self.scene.network.heal()
        self.cluster.client(self._current).config_set("replica-priority", 100)
        super().heal()

    def confirm_after(self, before: dict[str, Any], after: dict[str, Any]) -> str:
        """Nothing was lagging unless the link had to replay."""
        return "" if after["replayed"] > before["replayed"] else "the link had nothing to replay"


class SentinelsRestarted(Kill):
    """The master is killed, and all Sentinels are restarted before they can do anything about it."""

    name = "Sentinels restarted in an outage"

    def inject(self) -> None:
        """Break it."""
        super().inject()
        for sentinel in self.cluster.sentinels.values():
            sentinel.kill()
        self.cluster.start_sentinels()

    def heal(self) -> None:
        """Start what is down."""
        if not all(sentinel.running for sentinel in self.cluster.sentinels.values()):
            for sentinel in self.cluster.sentinels.values():
                sentinel.kill()
            self.cluster.start_sentinels()
        super().heal()


class LinkKilled(Nemesis):
    """SIGKILL of the link, and a start right away."""

    name = "link killed"
    changes_master = False
    ends_link = True

    def inject(self) -> None:
        """Break it."""
        self.link.kill()

    def confirm(self) -> None:
        """Start it and wait until it applies writes."""
        self.link.start()
        self.link.wait_until_ready(_FAILOVER)

    def heal(self) -> None:
        """Start it if it is down."""
        if not self.link.running:
            self.link.start()

    def confirm_after(self, before: dict[str, Any], after: dict[str, Any]) -> str:
        """Compare the numbers of starts."""
        started = after["journal"]["incarnation"] > before["journal"]["incarnation"]
        return "" if started else "the link was not started again"


class LinkTerminated(LinkKilled):
    """SIGTERM of the link, which drains, and a start right away."""

    name = "link terminated"

    def inject(self) -> None:
        """Break it."""
        status = self.link.terminate()
        if status != 0:
            raise RuntimeError(f"the link ended with status {status}")


class LinkAndMasterKilled(Kill):
    """The master and the link are killed in the same moment; the link starts into the outage."""

    name = "link and master killed"
    ends_link = True

    def inject(self) -> None:
        """Break it."""
        self.cluster.nodes[self.master].kill()
        self.link.kill()

    def confirm(self) -> None:
        """Start the link and wait for the failover."""
        self.link.start()
        super().confirm()
        self.link.wait_until_ready(_FAILOVER)

    def heal(self) -> None:
        """Start what is down."""
        if not self.link.running:
            self.link.start()
        super().heal()


class LinkTerminatedInOutage(LinkAndMasterKilled):
    """The link is told to end while there is no master: what it holds stays in the journal."""

    name = "link terminated in an outage"

    def inject(self) -> None:
        """Break it."""
        self.cluster.nodes[self.master].kill()
        self.link.terminate()


class LinkFrozen(Kill):
    """The link is frozen, sleeps through a failover with operations under way, and thaws."""

    name = "link frozen through a failover"

    def inject(self) -> None:
        """Break it."""
        freeze(self.link)
        super().inject()

    def confirm(self) -> None:
        """Wait for the failover, and let the link go on."""
        super().confirm()
        thaw(self.link)

    def heal(self) -> None:
        """Let the link go on and start the old master."""
        thaw(self.link)
        super().heal()


class Flush(Nemesis):
    """FLUSHALL by a client through the link, while everything is well."""

    name = "FLUSHALL by a client"
    changes_master = False
    reconnects = False

    def prepare(self) -> None:
        """Connect."""
        self._client = self.link.client(_FAILOVER)
        self._client.ping()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._flush, name="flush", daemon=True)

    def _flush(self) -> None:
        try:
            self._client.flushall()
            self.scene.appenders.ledger.flush_answered()
        except BaseException as error:
            self._error = error

    def inject(self) -> None:
        """Flush."""
        self.scene.appenders.ledger.flush_asked()
        self._thread.start()

    def confirm(self) -> None:
        """Wait for the answer."""
        self._thread.join(_FAILOVER)
        if self._error is not None:
            raise RuntimeError(f"FLUSHALL through the link: {self._error!r}")
        if self._thread.is_alive():
            raise TimeoutError("FLUSHALL through the link was not answered")

    def heal(self) -> None:
        """Nothing is broken."""


class FlushAndKill(Flush, Kill):
    """FLUSHALL by a client, and the master is killed in the same moment."""

    name = "FLUSHALL by a client, and kill"
    changes_master = True
    reconnects = True

    def inject(self) -> None:
        """Break it."""
        Flush.inject(self)
        self.scene.traffic(self.scene.random.uniform(0.0, 0.003))
        Kill.inject(self)

    def confirm(self) -> None:
        """Wait for the failover and for the answer."""
        Kill.confirm(self)
        Flush.confirm(self)

    def heal(self) -> None:
        """Start the old master."""
        Kill.heal(self)


#: All of them, with how often each is drawn in a random run.
NEMESES: dict[type[Nemesis], int] = {
    Kill: 3,
    KillReturnsAsMaster: 2,
    Freeze: 3,
    BriefFreeze: 3,
    InstantRestart: 2,
    RollBack: 2,
    RollBackLinkKilled: 1,
    ReplicasFrozen: 1,
    MasterAlone: 3,
    MasterWithLink: 3,
    LinkAlone: 2,
    AnswersOnly: 3,
    RequestsLost: 3,
    ForcedFailover: 2,
    TwoFailovers: 2,
    LaggingReplica: 2,
    SentinelsRestarted: 1,
    LinkFrozen: 1,
    LinkKilled: 3,
    LinkTerminated: 1,
    LinkAndMasterKilled: 2,
    LinkTerminatedInOutage: 1,
    Flush: 1,
    FlushAndKill: 2,
}
