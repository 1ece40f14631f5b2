"""Faults of the network between the containers: partitions, loss, delay, and a replica that lags because of one."""

from __future__ import annotations

import random
import statistics
import time
from abc import abstractmethod
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError, ResponseError

from drills import partition
from drills.partition import Filters
from drills.processes import sentinel_replicas
from drills.stack import NODES, SENTINELS, DockerError, Stack, docker
from drills.waiting import wait_until

from .base import FAILOVER, Fault

_PRIORITY = "replica-priority"
#: What a client without a link writes to a master that is cut off; it is gone when that one follows another.
_STRANGER = "written-to-a-master-that-is-cut-off"
#: Seconds: min-replicas-max-lag is 2, and is looked at once a second.
_REFUSAL = 10.0
#: Redis' default, and what the nodes of the stack have.
_ELECTABLE = 100
#: Finds the interface in the network whose range is the script's argument.
_INTERFACE = 'dev=$(ip -o -4 address show to "$1" | cut -d" " -f2) && test -n "$dev"'
#: Not an error where nothing is delayed, or where there is no such interface.
_UNDELAY = f'if {_INTERFACE} && tc qdisc show dev "$dev" | grep -q netem; then tc qdisc del dev "$dev" root; fi'


class _Filtered(Fault):
    """A fault that packet filters make."""

    _filters: Filters | None = None

    @abstractmethod
    def _rules(self) -> dict[str, str]:
        """Return the rules, by service."""

    def prepare(self) -> None:
        """Have the filters ready beside their containers."""
        self._filters = Filters(self.stack, self._rules())

    def inject(self) -> None:
        """Let them work."""
        assert self._filters is not None
        self._filters.apply()

    def heal(self) -> None:
        """Remove them."""
        if self._filters is not None:
            self._filters.discard()
        partition.clear(self.stack, self._rules())

    def _addresses(self, *services: str) -> list[str]:
        """Return the addresses of services and that of the host, which goes on observing."""
        return [self.stack.gateway, *(self.stack.ip(service) for service in services)]


class PartitionMaster(_Filtered):
    """The master is cut off from everything on the network but the host, and believes that it is the master still."""

    name = "partition-master"
    summary = "the master is cut off from all other containers"

    def _rules(self) -> dict[str, str]:
        return _separated(self.stack, self.master)

    def confirm(self) -> str:
        """Wait for the promotion; the old master must be seen to live on, on its side."""
        promoted = self.confirm_promotion()
        # It learns of its successor no sooner than the network heals.
        role = self.stack.role(self.master)
        self._wait_until_refused()
        return f"{promoted}; {self.master} lives, says of itself: {role}, and refuses writes for want of replicas"

    def _wait_until_refused(self) -> None:
        """Wait until the isolated master takes no writes any more.

        Clients without a link that are cut off together with it would go on writing what is lost when it is demoted:
        ``min-replicas-to-write`` ends that.
        """
        client = self.stack.client(self.master)

        def refuses() -> bool:
            try:
                client.set(_STRANGER, 1)
            except ResponseError as error:
                return str(error).startswith("NOREPLICAS")
            return False

        wait_until(refuses, _REFUSAL, f"{self.master}, cut off, refuses writes (min-replicas-to-write)", 0.1)


class PartitionMasterWithTrader(PartitionMaster):
    """Master and trader are cut off together: the trader goes on with a master that is being replaced."""

    name = "partition-master-with-trader"
    summary = "master and trader are cut off together: the trader writes to a master that is being replaced"

    def _rules(self) -> dict[str, str]:
        return _separated(self.stack, self.master, "trader")

    def inject(self) -> None:
        """Cut them off."""
        super().inject()
        self._last = self.stack.marker(self.master)[1]

    def confirm(self) -> str:
        """Wait for the promotion on the other side, and until the old master took writes that the new one lacks."""
        promoted = self.confirm_promotion()
        self.linger(self.random.uniform(0.5, 2.0))
        successor = self.stack.promoted(self.master)
        taken, held = self.stack.marker(self.master)[1], self.stack.marker(successor)[1]
        if taken <= max(self._last, held):
            raise TimeoutError(
                f"{self.master} took no entry of the trader after it was cut off: it stands at {taken}, "
                f"{successor} at {held}"
            )
        self._wait_until_refused()
        return f"{promoted}; {self.master} took {taken - held} entries of the trader that the new master lacks"


class PartitionTrader(_Filtered):
    """The trader is cut off from all nodes and Sentinels, both ways; Redis is well and serves everybody else."""

    name = "partition-trader"
    summary = "the trader is cut off from all other containers"
    changes_master = False
    interrupts_writes = False

    def _rules(self) -> dict[str, str]:
        return _separated(self.stack, "trader")

    def confirm(self) -> str:
        """Wait until the link holds, and trade on for a while."""
        wait_until(lambda: self.stack.link()["state"] == "holding", FAILOVER, "the trader's link holds", 0.05)
        before = self.stack.link()
        self.linger(self.random.uniform(1.0, 3.0))
        wait_until(lambda: self.stack.link()["accepted"] > before["accepted"], FAILOVER, "the node trades on")
        now = self.stack.link()
        if now["acknowledged"] > before["acknowledged"] and now["state"] != "holding":
            raise TimeoutError("the link reached a master though the trader was cut off")
        return f"the trader's link holds and took {now['accepted'] - before['accepted']} entries of the node meanwhile"


class RequestsLost(_Filtered):
    """What the links send to the nodes is lost, and what they send arrives.

    The kernel goes on sending what a link had written: when the network is well again it arrives late, behind the
    handshake of the link's next connection, which has sent the same again. Only the fence keeps it from being applied
    twice. (A transaction of more than one segment is safe without: its kernel answers the first reply with a RST. The
    trader's mostly are, the appender's are not.)
    """

    name = "requests-lost"
    summary = "what the links send to Redis is lost, and arrives late, behind what their next connections send"
    changes_master = False
    resumes_unhealed = False

    def _rules(self) -> dict[str, str]:
        return dict.fromkeys(NODES, partition.deaf([self.stack.ip("trader"), self.stack.guests]))

    def confirm(self) -> str:
        """Wait until the link holds, and until the kernel's pauses between its attempts are longer than the link's."""
        wait_until(lambda: self.stack.link()["state"] == "holding", FAILOVER, "the trader's link holds", 0.05)
        self.linger(self.random.uniform(2.5, 4.0))
        lost = partition.packets(self.stack, self.master).received_dropped
        if not lost:
            raise TimeoutError(f"nothing that the trader sent to {self.master} was lost")
        return f"{lost} packets of the trader to {self.master} were lost"


class PartitionService(_Filtered):
    """One container, of the caller's choice, is cut off from all others."""

    name = "partition-service"
    summary = "one container is cut off from all others"
    changes_master = False
    interrupts_writes = False
    interrupts_trader = False

    def __init__(self, stack: Stack, service: str, chance: random.Random | None = None) -> None:
        super().__init__(stack, chance)
        self.service = service

    def _rules(self) -> dict[str, str]:
        return _separated(self.stack, self.service)

    def confirm(self) -> str:
        """Wait until packets were dropped: every one of them has something to say to others all the time."""
        wait_until(self._dropped, FAILOVER, f"packets that {self.service} sends are dropped", 0.2)
        return f"{self.service} is cut off: {partition.packets(self.stack, self.service)}"

    def _dropped(self) -> bool:
        return partition.packets(self.stack, self.service).sent_dropped > 0


class LossyNetwork(_Filtered):
    """Packets from and to the master get lost at random, each way by itself."""

    name = "lossy-network"
    summary = "every tenth packet from and to the master gets lost"
    #: The Sentinels may take so many lost answers for a death.
    changes_master = None
    interrupts_writes = False
    interrupts_trader = False
    #: Of the packets each way.
    percent = 10
    #: So many packets must have been lost each way.
    _ENOUGH = 30

    def _rules(self) -> dict[str, str]:
        allowed = self._addresses(self.master)
        return {self.master: partition.loss(self.stack.subnet, allowed, self.percent)}

    def confirm(self) -> str:
        """Wait until enough packets were lost both ways, while the link has applied writes."""
        first = self.stack.marker(self.master)[1]
        wait_until(self._enough, FAILOVER, f"{self._ENOUGH} packets lost each way", 0.5)
        self.linger(self.random.uniform(3.0, 6.0))
        lost = partition.packets(self.stack, self.master)
        successor = self.stack.promoted(self.master)
        wait_until(lambda: self.stack.marker(successor or self.master)[1] > first, FAILOVER, "the trader's writes")
        return f"lost {lost}" + (f"; the Sentinels promoted {successor} because of it" if successor else "")

    def _enough(self) -> bool:
        lost = partition.packets(self.stack, self.master)
        return min(lost.received_dropped, lost.sent_dropped) >= self._ENOUGH


class SlowNetwork(Fault):
    """What the master sends is delayed, which its clients, its replicas and the Sentinels see as a long way to it.

    The host sees it too, so it is measured there.
    """

    name = "slow-network"
    summary = "the network of the master is slow"
    changes_master = False
    interrupts_writes = False
    interrupts_trader = False
    #: Milliseconds, and how much they vary. Less than half of what Sentinel waits for an answer.
    delay, jitter = 150, 30

    @classmethod
    def unavailable(cls, stack: Stack) -> str:
        """Try it in a network namespace that is thrown away."""
        run = ("run", "--rm", "--user", "0:0", "--cap-add", "NET_ADMIN", "--network", "none", stack.image)
        try:
            docker(*run, "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
        except DockerError as error:
            # The second is what an older ``tc`` says.
            if not any(words in str(error) for words in ("qdisc kind is unknown", "No such file or directory")):
                raise
            return "this kernel cannot delay packets: it has no netem (CONFIG_NET_SCH_NETEM)"
        return ""

    def inject(self) -> None:
        """Delay what the master sends."""
        how = f"netem delay {self.delay}ms {self.jitter}ms limit 10000"
        script = f'{_INTERFACE} && tc qdisc replace dev "$dev" root {how}'
        self.stack.beside(self.master, "sh", "-c", script, "sh", self.stack.subnet)

    def confirm(self) -> str:
        """Measure how long an answer takes; trade on for a while."""
        first = self.stack.marker(self.master)[1]
        client = self.stack.client(self.master, timeout=5.0)
        client.ping()
        took: list[float] = []
        for _ in range(9):
            began = time.monotonic()
            client.ping()
            took.append((time.monotonic() - began) * 1000)
        median = statistics.median(took)
        if median < self.delay / 2:
            raise TimeoutError(f"{self.master} answers within {median:.0f} ms: nothing delays it")
        self.linger(self.random.uniform(3.0, 6.0))
        wait_until(lambda: self.stack.marker(self.master)[1] > first, FAILOVER, "the trader's writes")
        return f"{self.master} took {median:.0f} ms (median of {len(took)}) to answer a PING"

    def heal(self) -> None:
        """Take the delay back."""
        partition.run_beside(self.stack, [self.master], "sh", "-c", _UNDELAY, "sh", self.stack.subnet)


class LaggingReplica(_Filtered):
    """A replica that has missed the last seconds is promoted, though another one has everything."""

    name = "lagging-replica"
    summary = "the master dies, and of its replicas the one that lacks the last seconds is promoted"
    #: So many entries of the trader's link the one must lack.
    _ENOUGH = 10

    def _rules(self) -> dict[str, str]:
        return {self._lagging: partition.cut([self.stack.ip(self.master)])}

    def prepare(self) -> None:
        """Have one replica promoted only if there is no other, and cut the other one off from the master.

        Nothing is broken yet that anybody would notice.
        """
        self._current, self._lagging = self.random.sample(self.replicas, 2)
        try:
            self.stack.client(self._current).config_set(_PRIORITY, 0)
            wait_until(self._known, FAILOVER, f"the Sentinels know that {self._current} is not electable")
            super().prepare()
            super().inject()
            # Less than a Sentinel allows a replica to have been without its master: down-after x 10.
            wait_until(lambda: self._lag() >= self._ENOUGH, FAILOVER, f"{self._lagging} lacks {self._ENOUGH} entries")
            self.linger(self.random.uniform(0.3, 1.2))
        except BaseException:
            self.heal()
            raise

    def inject(self) -> None:
        """Kill the master."""
        self._whole, self._behind = self.stack.marker(self._current)[1], self.stack.marker(self._lagging)[1]
        self.stack.kill(self.master)

    def confirm(self) -> str:
        """Wait until the one that lags is master and the link has given it what it lacked."""
        self.confirm_promotion()
        promoted = self.stack.promoted(self.master)
        if promoted != self._lagging:
            raise TimeoutError(f"{promoted} was promoted, the replica that has everything")
        if self._behind >= self._whole:
            raise TimeoutError(f"{self._lagging} lacked nothing when the master died: both were at {self._whole}")
        wait_until(
            lambda: self.stack.marker(self._lagging)[1] >= self._whole, FAILOVER, "the link sends again what was lost"
        )
        return (
            f"{promoted} was promoted in place of {self.master}; it lacked {self._whole - self._behind} entries of the "
            f"trader that {self._current} had, and has them by now"
        )

    def heal(self) -> None:
        """Join the network, make both replicas electable, start the old master."""
        # Not before the promotion: the kernel would deliver what the dead master had sent.
        super().heal()
        self.stack.ensure_running(self._current)
        client = self.stack.client(self._current)
        wait_until(lambda: client.config_set(_PRIORITY, _ELECTABLE), FAILOVER, f"{self._current} is electable again")
        self.stack.ensure_running(self.master)

    def _lag(self) -> int:
        return self.stack.marker(self._current)[1] - self.stack.marker(self._lagging)[1]

    def _known(self) -> bool:
        return all(
            int(replica["slave-priority"]) == 0
            for sentinel in SENTINELS
            for replica in sentinel_replicas(self.stack.client(sentinel))
            if replica["ip"] == self.stack.ip(self._current)
        )


def _separated(stack: Stack, *inside: str) -> dict[str, str]:
    """Return the rules that cut some services off together; inside the group, and from the host, all is reachable."""
    rules = partition.isolation(stack.subnet, [stack.gateway, *(stack.ip(service) for service in inside)])
    return dict.fromkeys(inside, rules)


def heal_network(stack: Stack) -> None:
    """Undo whatever these faults may have left anywhere in a stack, whoever made it and whenever.

    Raises
    ------
    DockerError
        If a container that runs could not be reached.

    """
    script = f"nft -f - && {_UNDELAY}"
    partition.run_beside(stack, stack.services, "sh", "-c", script, "sh", stack.subnet, stdin=partition.CLEARED)
    for node in NODES:
        client: Any = stack.client(node)
        with suppress(RedisError, OSError):
            role = client.role()
            # A replica whose disk was empty makes itself electable when it has its first copy: not before.
            if role[0] == "master" or role[3] == "connected":
                client.config_set(_PRIORITY, _ELECTABLE)


FAULTS: tuple[type[Fault], ...] = (
    PartitionMaster,
    PartitionMasterWithTrader,
    PartitionTrader,
    RequestsLost,
    LossyNetwork,
    SlowNetwork,
    LaggingReplica,
)
