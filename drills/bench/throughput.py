"""The grid: operations, pipelines and connections, on the three routes in turn, over one cluster on loopback."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..processes import Cluster
from . import batches, redis_benchmark
from .cost import cpu_seconds, resident_bytes
from .routes import HAProxy, Link
from .samples import ROUTES, Cell, Latency, Route, Sample, latency

OPERATIONS = ("SET", "GET", "RPUSH", "batch")
PIPELINES = (1, 16)
CONNECTIONS = (1, 20, 100)
FSYNCS = ("never", "everysec", "always")
_HOST = "127.0.0.1"
#: Share of the time of a run that goes before it, unmeasured: connections, caches and the interpreter warm up.
_WARM_UP = 0.15

#: Tells what is being done, for people who wait.
Progress = Callable[[str], None]
Samples = dict[tuple[Cell, Route], list[Sample]]


class Bench:
    """A cluster with HAProxy and a link in front of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Nothing is to fail over or to be refused here because the load leaves no time for a PING or an ACK.
        self.cluster = Cluster(folder / "cluster", down_after_ms=60_000)
        self._haproxy: HAProxy | None = None
        self._link: Link | None = None
        self._links = itertools.count(1)

    def start(self) -> None:
        """Start the cluster and HAProxy; links are started by ``fresh_link``."""
        self.cluster.start()
        self.cluster.wait_until_whole()
        self._haproxy = HAProxy(self.cluster, self._folder / "haproxy")
        self._haproxy.start()
        self._haproxy.wait_until_ready()

    def stop(self) -> None:
        """Kill everything."""
        for process in (self._haproxy, self._link):
            if process is not None:
                process.kill()
        self.cluster.stop()

    def fresh_link(self, fsync: str = "everysec") -> None:
        """Replace the link by a new one with an empty journal, so that no measurement is the heir of those before."""
        if self._link is not None:
            self._link.kill()
        name = f"BENCH-{next(self._links)}"
        self._link = Link(self.cluster, self._folder / name, link_id=name, fsync=fsync)
        self._link.start()
        self._link.wait_until_ready()

    def port(self, route: Route) -> int:
        """Return the port on loopback at which a route begins."""
        if route == "direct":
            return self._master
        process = self._haproxy if route == "haproxy" else self._link
        assert process is not None
        return process.port

    @property
    def _master(self) -> int:
        return self.cluster.node_ports[0]

    def _proxy_pid(self, route: Route) -> int | None:
        process = {"direct": None, "haproxy": self._haproxy, "link": self._link}[route]
        return None if process is None else process.pid

    def fill(self) -> None:
        """Write what GET and LRANGE will read."""
        redis_benchmark.fill(_HOST, self._master, self._folder)
        client = self.cluster.client(self._master)
        client.set("event", "e" * batches.EVENT_BYTES)
        client.rpush("position", *["e" * batches.EVENT_BYTES] * 2)

    def idle_rss(self, route: Route) -> int | None:
        """Return the resident memory of a route's proxy, in bytes."""
        pid = self._proxy_pid(route)
        return None if pid is None else resident_bytes(pid)

    def measure(self, cell: Cell, route: Route, seconds: float) -> Sample:
        """Measure one cell on one route for about so many seconds.

        Raises
        ------
        NoDataError
            If nothing was measured.
        RuntimeError
            If replies were wrong or the link's journal was full, when it is the disk's bound that would be measured.

        """
        drive = self._drive_batches if cell.operation == "batch" else self._drive_commands
        sample = drive(cell, route, seconds)
        if route == "link":
            assert self._link is not None
            journal = self._link.status()["journal"]
            if journal["bytes"] > 0.9 * journal["max_bytes"]:
                raise RuntimeError(f"{cell}: the link's journal was full, so its clients had to wait")
            sample = dataclasses.replace(sample, journal_bytes=int(journal["bytes"]))
        return sample

    def _drive_commands(self, cell: Cell, route: Route, seconds: float) -> Sample:
        port = self.port(route)
        if cell.operation == "RPUSH":
            self.cluster.client(self._master).unlink("mylist")
        guess = redis_benchmark.rate(cell, _HOST, port)
        warm = redis_benchmark.run(cell, _HOST, port, max(int(guess * seconds * _WARM_UP), 1000))
        requests = max(int(warm.rate * seconds), 1000)
        with self._costs(route) as costs:
            result = redis_benchmark.run(cell, _HOST, port, requests)
        elapsed = requests / result.rate
        return costs.sample(requests, elapsed, result.rate, result.latency, result.generator_cpu)

    def _drive_batches(self, cell: Cell, route: Route, seconds: float) -> Sample:
        address = (_HOST, self.port(route))
        batches.drive(address, cell.connections, cell.pipeline, seconds * _WARM_UP)
        with self._costs(route) as costs:
            driven = batches.drive(address, cell.connections, cell.pipeline, seconds)
        count = len(driven.seconds)
        rate = count / driven.elapsed
        return costs.sample(count, driven.elapsed, rate, latency(driven.seconds), driven.generator_cpu)

    @contextmanager
    def _costs(self, route: Route) -> Iterator[_Costs]:
        costs = _Costs(self._proxy_pid(route), self.cluster.nodes[self._master].pid)
        costs.begin()
        yield costs
        costs.end()


class _Costs:
    """CPU time that proxy and master use while something is measured."""

    def __init__(self, proxy: int | None, master: int) -> None:
        self._proxy = proxy
        self._master = master
        self._proxy_cpu = self._master_cpu = 0.0

    def begin(self) -> None:
        self._proxy_cpu, self._master_cpu = self._now()

    def end(self) -> None:
        proxy, master = self._now()
        self._proxy_cpu, self._master_cpu = proxy - self._proxy_cpu, master - self._master_cpu

    def sample(self, requests: int, elapsed: float, rate: float, latency: Latency, generator_cpu: float) -> Sample:
        return Sample(
            rate=rate,
            latency=latency,
            proxy_cpu=None if self._proxy is None else self._proxy_cpu / requests * 1e6,
            redis_cpu=self._master_cpu / requests * 1e6,
            generator_busy=generator_cpu / elapsed,
            proxy_rss=None if self._proxy is None else resident_bytes(self._proxy),
        )

    def _now(self) -> tuple[float, float]:
        return 0.0 if self._proxy is None else cpu_seconds(self._proxy), cpu_seconds(self._master)


def in_turn(run: int) -> tuple[Route, ...]:
    """Return the routes in the order of a run: each is first as often as any other."""
    first = run % len(ROUTES)
    return ROUTES[first:] + ROUTES[:first]


def grid(bench: Bench, runs: int, seconds: float, progress: Progress) -> Samples:
    """Measure all cells on all routes, interleaved, so that what disturbs the machine disturbs all of them."""
    samples: Samples = defaultdict(list)
    for run in range(runs):
        for operation in OPERATIONS:
            bench.fresh_link()
            progress(f"run {run + 1} of {runs}: {operation}")
            for pipeline, connections in itertools.product(PIPELINES, CONNECTIONS):
                cell = Cell(operation, pipeline, connections)
                for route in in_turn(run):
                    samples[cell, route].append(bench.measure(cell, route, seconds))
    return dict(samples)


def fsync_modes(bench: Bench, runs: int, seconds: float, progress: Progress) -> dict[str, list[Sample]]:
    """Measure the link with each policy of its journal: single SETs on 20 connections."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    for run in range(runs):
        progress(f"run {run + 1} of {runs}: fsync {', '.join(FSYNCS)}")
        for fsync in FSYNCS:
            bench.fresh_link(fsync)
            samples[fsync].append(bench.measure(Cell("SET", 1, 20), "link", seconds))
    return dict(samples)
