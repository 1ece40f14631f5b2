"""Positions lost per failover: a writer like NautilusTrader's on each route, through the same faults of the master."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..network import Host, Network
from ..processes import MASTER_NAME, Cluster, freeze, sentinel_master, thaw
from ..waiting import wait_until
from .results import Loss
from .routes import HAProxy, Link
from .samples import ROUTES, NoDataError, Route
from .wire import first_error, read, transaction

#: Positions that each writer opens, per second.
RATE = 100
#: Between two batches, in seconds: Nautilus' buffer_interval_ms.
_INTERVAL = 0.1
#: A silent connection is given up after so many seconds: the timeout of the research document's example.
_SILENCE = 2.0
_PAYLOAD = b"p" * 500

CUT_OFF = "partition"
CUT_OFF_TOGETHER = "partition with the clients"
#: What befalls the master: SIGKILL, SIGSTOP, its host alone cut off, its host and the clients' cut off together.
FAULTS = ("kill", "freeze", CUT_OFF, CUT_OFF_TOGETHER)
#: Seconds for which two masters take writes when clients are cut off with the old one.
_TWO_MASTERS = 2.0

Connect = Callable[[], socket.socket]


class Writer(threading.Thread):
    """Opens positions at a steady rate and hands them over in batches, as Nautilus does.

    A position is a key of its own with one event. Any error, a broken connection and silence drop the batch, without a
    retry; a broken or silent connection is opened anew, and what has come up meanwhile goes with the next batch. An
    error reply does not end the connection, unless it says that this is no master and the client knows Sentinel.
    """

    def __init__(self, prefix: str, connect: Connect, *, leaves_replicas: bool, host: Host | None = None) -> None:
        super().__init__(name=prefix, daemon=True)
        self.prefix = prefix
        self._connect = connect
        self._leaves_replicas = leaves_replicas
        self._host = host
        self._stopping = threading.Event()
        #: Positions handed over so far; they are numbered from 0.
        self.handed_over = 0
        #: Numbers of the positions whose batch was acknowledged.
        self.acknowledged: set[int] = set()
        #: Positions whose batch was dropped, by the error that it met.
        self.drops: Counter[str] = Counter()

    def key(self, number: int) -> bytes:
        """Return the key of a position."""
        return f"{self.prefix}:positions:P-{number}".encode()

    @property
    def last_key(self) -> bytes:
        """The key that holds the number of the last position of the last batch."""
        return f"{self.prefix}:last".encode()

    def wait_for_acknowledged(self, positions: int) -> None:
        """Wait until so many more positions are acknowledged. Raises ``TimeoutError`` if they are not in 20 s."""
        goal = len(self.acknowledged) + positions
        wait_until(lambda: len(self.acknowledged) >= goal, 20, f"{self.prefix}: {positions} positions", 0.02)

    def stop(self) -> None:
        """End after the batch that is due."""
        self._stopping.set()
        self.join(30)
        if self.is_alive():
            raise TimeoutError(f"{self.prefix} does not end")

    def run(self) -> None:
        """Write until ``stop``."""
        if self._host is not None:
            self._host.enter()
        start = time.monotonic()
        connection = self._connect_at_last()
        while connection is not None and not self._stopping.wait(_INTERVAL):
            due = int((time.monotonic() - start) * RATE)
            numbers = range(self.handed_over, due)
            self.handed_over = due
            try:
                error = self._send(connection, numbers)
            except OSError as broken:
                self.drops[str(broken)] += len(numbers)
                connection.close()
                connection = self._connect_at_last()
                continue
            if error is None:
                self.acknowledged.update(numbers)
                continue
            self.drops[error] += len(numbers)
            if self._leaves_replicas and error.startswith("READONLY"):
                connection.close()
                connection = self._connect_at_last()
        if connection is not None:
            connection.close()

    def _send(self, connection: socket.socket, numbers: range) -> str | None:
        commands = [(b"RPUSH", self.key(number), _PAYLOAD) for number in numbers]
        commands.append((b"SET", self.last_key, b"%d" % numbers[-1]))
        connection.sendall(transaction(commands))
        _, replies = read(connection, len(commands) + 2)
        return first_error(replies)

    def _connect_at_last(self) -> socket.socket | None:
        while not self._stopping.is_set():
            try:
                connection = self._connect()
                connection.settimeout(_SILENCE)
                # HAProxy takes a connection also when it has nowhere to send it.
                connection.sendall(b"*1\r\n$4\r\nPING\r\n")
                read(connection, 1)
            except (OSError, RedisError):
                time.sleep(_INTERVAL)
            else:
                return connection
        return None


class Stage:
    """A cluster on hosts of its own, three writers on one more with HAProxy and the link, and faults of the master."""

    def __init__(self, folder: Path, *, min_replicas: int) -> None:
        self._network = Network()
        self.cluster = Cluster(folder / "cluster", down_after_ms=1000, min_replicas=min_replicas, network=self._network)
        self._link = Link(self.cluster, folder / "link", link_id="BENCH")
        self._haproxy = HAProxy(self.cluster, folder / "haproxy")
        self._trials = 0

    def start(self) -> None:
        """Start everything."""
        self.cluster.start()
        self.cluster.wait_until_whole()
        self._haproxy.start()
        self._link.start()
        self._haproxy.wait_until_ready()
        self._link.wait_until_ready()

    def stop(self) -> None:
        """Kill everything."""
        self._haproxy.kill()
        self._link.kill()
        self.cluster.stop()
        self._network.remove()

    def fail_over(self, fault: str) -> dict[Route, Loss]:
        """Let the writers work through one fault of the master and return what each has lost.

        Raises
        ------
        NoDataError
            If a writer had nothing acknowledged before the fault, or handed nothing over during it.
        TimeoutError
            If the fault made no other node the master, or a writer did not come back.

        """
        self._trials += 1
        writers = {route: self._writer(route) for route in ROUTES}
        for writer in writers.values():
            writer.start()
        try:
            for writer in writers.values():
                writer.wait_for_acknowledged(RATE)
            master = self.cluster.master()
            self._wait_for_writes_on(master, writers)
            epoch = self._epoch()
            before = {route: writer.handed_over for route, writer in writers.items()}
            fault_at = time.monotonic()
            self._inject(fault, master)
            try:
                if fault == CUT_OFF_TOGETHER:
                    self.cluster.wait_for_other_master(master)
                    # Both sides go on with a master of their own. The duration is part of the fault.
                    time.sleep(_TWO_MASTERS)
                else:
                    recovered = self._first_writes(writers, before, master)
                    self.cluster.wait_for_other_master(master)
            finally:
                self._heal(fault, master)
            if fault == CUT_OFF_TOGETHER:
                # They cannot reach the new master before.
                fault_at = time.monotonic()
                before = {route: writer.handed_over for route, writer in writers.items()}
                recovered = self._first_writes(writers, before, master)
            # The old master's return, and being made a replica, are part of a failover.
            self.cluster.wait_until_settled()
            for writer in writers.values():
                writer.wait_for_acknowledged(RATE)
        finally:
            for writer in writers.values():
                writer.stop()
        self._link.wait_until_drained()
        holder = self.cluster.client(self.cluster.master())
        elections = self._epoch() - epoch
        return {
            route: count(writer, before[route], self._found(holder, writer), recovered[route] - fault_at, elections)
            for route, writer in writers.items()
        }

    def _epoch(self) -> int:
        """Return the number of the election that the current master is from."""
        asked = (self.cluster.client(port) for port in self.cluster.sentinel_ports)
        return max(int(sentinel_master(client)["config-epoch"]) for client in asked)

    def _writer(self, route: Route) -> Writer:
        connect: dict[Route, Connect] = {
            "direct": self._ask_sentinel,
            "haproxy": lambda: socket.create_connection((self._haproxy.address, self._haproxy.port), _SILENCE),
            "link": lambda: socket.create_connection(("127.0.0.1", self._link.port), _SILENCE),
        }
        host = self._network.hosts["link"]
        prefix = f"bench-{self._trials}-{route}"
        return Writer(prefix, connect[route], leaves_replicas=route == "direct", host=host)

    def _ask_sentinel(self) -> socket.socket:
        sentinels = [(self.cluster.address(port), port) for port in self.cluster.sentinel_ports]
        # redis-py would ask each silent Sentinel four times, up to 10 s apart, before it asks the next one.
        patience = {"socket_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
        sentinel = Sentinel(sentinels, sentinel_kwargs=patience)  # type: ignore[no-untyped-call]
        address = sentinel.discover_master(MASTER_NAME)  # type: ignore[no-untyped-call]
        return socket.create_connection(address, _SILENCE)

    def _inject(self, fault: str, master: int) -> None:
        host = self.cluster.hosts[master]
        if fault == "kill":
            self.cluster.nodes[master].kill()
        elif fault == "freeze":
            freeze(self.cluster.nodes[master])
        elif fault == CUT_OFF:
            self._network.separate([host])
        else:
            self._network.separate([host, "link"])

    def _heal(self, fault: str, master: int) -> None:
        if fault == "kill":
            self.cluster.restart(master)
        elif fault == "freeze":
            thaw(self.cluster.nodes[master])
        else:
            self._network.heal()

    def _wait_for_writes_on(self, master: int, writers: dict[Route, Writer]) -> None:
        """Wait until the master has writes of each writer: a fault elsewhere would tell nothing."""
        holder = self.cluster.client(master)
        keys = [writer.last_key.decode() for writer in writers.values()]
        wait_until(lambda: holder.exists(*keys) == len(keys), 20, "writes of every writer on the master", 0.02)

    def _first_writes(
        self, writers: dict[Route, Writer], before: dict[Route, int], old: int, seconds: float = 30.0
    ) -> dict[Route, float]:
        """Return when each writer's first position handed over after the fault was seen on another master."""
        clients = [self.cluster.client(port, 0.3) for port in self.cluster.node_ports if port != old]
        seen: dict[Route, float] = {}

        def all_seen() -> bool:
            for client in clients:
                pipeline = client.pipeline(transaction=False)
                pipeline.role()
                pipeline.mget([writer.last_key for writer in writers.values()])
                role, numbers = pipeline.execute()
                now = time.monotonic()
                if role[0] == "master":
                    for route, number in zip(writers, numbers, strict=True):
                        if int(number or 0) >= before[route]:
                            seen.setdefault(route, now)
            return len(seen) == len(writers)

        try:
            wait_until(all_seen, seconds, "a write on another master", 0.005)
        except TimeoutError as error:
            missing = ", ".join(sorted(writers.keys() - seen.keys()))
            raise TimeoutError(f"not recovered: {missing}: {error}") from error
        return seen

    @staticmethod
    def _found(holder: Redis, writer: Writer) -> list[int]:
        """Return how many times the data set holds each position."""
        pipeline = holder.pipeline(transaction=False)
        for number in range(writer.handed_over):
            pipeline.llen(writer.key(number).decode())
        return [int(length) for length in pipeline.execute()]


def count(writer: Writer, before: int, found: list[int], recovery: float, elections: int) -> Loss:
    """Compare what a writer handed over with how many times the data set holds each position.

    Parameters
    ----------
    writer
        The writer, after its end.
    before
        Positions handed over when the fault came.
    found
        For each position how many times it is there.
    recovery
        Seconds from the fault to the first write on the new master.
    elections
        How many times the Sentinels replaced the master.

    Raises
    ------
    NoDataError
        If nothing was handed over after the fault, or no master was replaced: then nothing could be lost.

    """
    if writer.handed_over <= before or not writer.acknowledged:
        raise NoDataError(f"no data: {writer.prefix} handed nothing over during the fault")
    if elections < 1:
        raise NoDataError(f"no data: {writer.prefix}: the Sentinels replaced no master")
    missing = {number for number, times in enumerate(found) if times == 0}
    return Loss(
        handed_over=writer.handed_over,
        lost_acknowledged=len(missing & writer.acknowledged),
        lost_dropped=len(missing - writer.acknowledged),
        duplicated=sum(times > 1 for times in found),
        recovery=recovery,
        elections=elections,
        dropped=dict(writer.drops),
    )
