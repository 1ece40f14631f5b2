"""One fault after another under live traffic, and after each of them a comparison one by one."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

from .appender import Appenders, Kind
from .ledger import Outcome, Record, Verdict
from .nemeses import Nemesis, Scene
from .network import Network
from .processes import Cluster, LinkProcess
from .waiting import wait_until

#: Seconds from the end of a fault until the link must serve every client again.
_RECOVERY = 60.0


@dataclass(slots=True)
class Result:
    """One fault: what it did to the traffic, and what was found afterwards. Times in seconds."""

    nemesis: str
    min_replicas: int
    acknowledged: int = 0
    failed: int = 0
    indeterminate: int = 0
    #: Values compared; a list is compared after the fault that ends it and after the next one.
    compared: int = 0
    #: Longest time without an acknowledgement to any client.
    longest_stall: float = 0.0
    #: From the fault to the acknowledgement of a write that was sent after it.
    first_write: float | None = None
    replayed: int = 0
    fenced: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    #: Why this was no success: no effect, no recovery, a broken client, an inexact data set.
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the fault took effect and nothing is wrong with what followed."""
        return not self.problems and self.verdict.exact

    def __str__(self) -> str:
        """Return one line for people."""
        first = f"{self.first_write:5.2f} s" if self.first_write is not None else "  never"
        data = "exact" if self.verdict.exact else self.verdict.differences()
        text = (
            f"{self.nemesis:<32} {self.acknowledged:>7} acknowledged, {self.indeterminate:>3} indeterminate, "
            f"{self.replayed:>6} replayed, stall {self.longest_stall:5.2f} s, first write {first}, "
            f"min-replicas {self.min_replicas}: {data}"
        )
        return "; ".join([text, *self.problems])


class Field:
    """A cluster on three hosts, a link on a fourth, and clients of the link; a context manager."""

    def __init__(
        self, folder: Path, kinds: Sequence[Kind], generator: random.Random, *, options: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.network = Network()
        try:
            self.cluster = Cluster(folder / "cluster", network=self.network, quick=True)
            settings = {"LINK_DRAIN_TIMEOUT": "1", **(options or {})}
            self.link = LinkProcess(self.cluster.url, folder / "link", network=self.network, options=settings)
        except BaseException:
            self.network.remove()
            raise
        self.appenders = Appenders(self.link.address, self.link.port, kinds, password=self.link.password)
        self.scene = Scene(self.cluster, self.link, self.network, self.appenders, generator, folder)
        #: Lists that were compared once already.
        self._compared: set[str] = set()

    def __enter__(self) -> Self:
        """Start everything."""
        try:
            self.cluster.start()
            self.cluster.wait_until_settled()
            self.link.start()
            self.link.wait_until_ready()
            self.appenders.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End everything, however it is."""
        self.link.kill()
        self.cluster.stop()
        self.network.remove()

    def strike(self, kind: type[Nemesis]) -> Result:
        """Have one fault happen and compare."""
        result = Result(kind.name, self.cluster.min_replicas)
        ledger = self.appenders.ledger
        counts = dict(ledger.counts)
        try:
            self._wait_until_served("before the fault")
            nemesis = kind(self.scene)
            before = self.link.status()
            try:
                nemesis.prepare()
                wait_until(lambda: self.appenders.in_flight > 0, 10, "operations in flight", 0.0005)
                ledger.availability.mark()
                nemesis.inject()
                ledger.availability.struck()
                nemesis.confirm()
            finally:
                nemesis.heal()
            self._wait_until_served("after the fault")
            self._take_times(result)
            after = self.link.status()
            self._take_effect(nemesis, before, after, result)
            self._compare(result)
        except (TimeoutError, RuntimeError, RedisError, OSError) as error:
            result.problems.append(str(error))
        result.acknowledged = ledger.count(Outcome.OK) - counts[Outcome.OK]
        result.failed = ledger.count(Outcome.FAILED) - counts[Outcome.FAILED]
        result.indeterminate = ledger.count(Outcome.INDETERMINATE) - counts[Outcome.INDETERMINATE]
        if result.failed:
            result.problems.append("a client was told that its write failed")
        if result.indeterminate and not kind.ends_link:
            result.problems.append("the link broke a client's connection")
        return result

    def finish(self) -> Result:
        """Stop the traffic and compare every list, on every node."""
        result = Result("at the end", self.cluster.min_replicas)
        try:
            self.appenders.stop()
            self.cluster.wait_until_settled(_RECOVERY)
            master = self.cluster.master()
            goal = self.cluster.client(master).info("replication")["master_repl_offset"]
            for port in self.cluster.node_ports:
                client = self.cluster.client(port, 30)
                wait_until(lambda c=client: _offset(c) >= goal, _RECOVERY, "replicas hold everything")
                self._read(client, self.appenders.closed(), result)
        except (TimeoutError, RuntimeError, RedisError, OSError) as error:
            result.problems.append(str(error))
        return result

    def keep_evidence(self, folder: Path, result: Result) -> None:
        """Copy logs, journal and the differences to where they outlive this container."""
        folder.mkdir(parents=True, exist_ok=True)
        verdict = result.verdict
        differences = {name: getattr(verdict, name)[:1000] for name in ("lost", "duplicated", "reordered", "phantom")}
        report = {"nemesis": result.nemesis, "problems": result.problems, "differences": differences}
        (folder / "result.json").write_text(json.dumps(report, indent=1))
        shutil.copytree(self.link.folder, folder / "link", dirs_exist_ok=True)
        for port, process in {**self.cluster.nodes, **self.cluster.sentinels}.items():
            shutil.copy(process.log, folder / f"{port}.log")

    # --- the steps of a fault ------------------------------------------------------------------------------------

    def _wait_until_served(self, when: str) -> None:
        """Wait until Redis is whole, the link is with its master, and every client gets answers."""
        self.cluster.wait_until_settled(_RECOVERY)

        def with_master() -> bool:
            state = self.link.status()
            if state["state"] == "halted":
                # Nothing that one could wait for.
                raise SystemExit(state["reason"])
            return state["state"] == "ready" and state["master"] == self._name(self.cluster.master())

        try:
            wait_until(with_master, _RECOVERY, f"the link is with the master {when}", 0.05)
        except SystemExit as halted:
            raise RuntimeError(f"the link halted: {halted}") from None
        self.appenders.rotate()
        try:
            wait_until(lambda: self.appenders.rotated, _RECOVERY, f"every client is served {when}", 0.02)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; not: {', '.join(self.appenders.waiting())}") from None

    def _name(self, port: int) -> str:
        return f"{self.cluster.address(port)}:{port}"

    def _take_times(self, result: Result) -> None:
        availability = self.appenders.ledger.availability
        result.longest_stall = availability.longest_stall
        if availability.first_ok is None:
            result.problems.append("no write that was sent after the fault was acknowledged")
        else:
            result.first_write = availability.first_ok - availability.marked

    def _take_effect(self, nemesis: Nemesis, before: dict[str, Any], after: dict[str, Any], result: Result) -> None:
        if nemesis.ends_link:
            before = {**before, "handshakes": 0, "replayed": 0, "fenced": 0}
        elif nemesis.changes_master and after["master_changes"] <= before["master_changes"]:
            result.problems.append("no effect: the link has seen no other master")
        if nemesis.reconnects and after["handshakes"] <= before["handshakes"]:
            result.problems.append("no effect: the link has made no new connection")
        if missing := nemesis.confirm_after(before, after):
            result.problems.append(f"no effect: {missing}")
        result.replayed = after["replayed"] - before["replayed"]
        result.fenced = after["fenced"] - before["fenced"]

    # --- comparing -----------------------------------------------------------------------------------------------

    def _compare(self, result: Result) -> None:
        """Compare the lists that are closed; delete, through the link, those that have lived through two faults."""
        closed = self.appenders.closed()
        for _ in range(10):
            before = self.link.status()
            attempt = Result(result.nemesis, result.min_replicas)
            master = self.cluster.master()
            self._read(self.cluster.client(master, 30), closed, attempt)
            after = self.link.status()
            # A failover that nobody asked for, on a busy machine: what was read may be that of a demoted master.
            if all(state["master"] == self._name(master) for state in (before, after)) and (
                before["handshakes"] == after["handshakes"]
            ):
                break
            self.cluster.wait_until_settled(_RECOVERY)
        else:
            raise TimeoutError("the master does not stay the same for as long as a comparison takes")
        result.verdict, result.compared = attempt.verdict, attempt.compared
        finished = [key for key in closed if key in self._compared]
        self._compared = set(closed)
        if finished:
            with self.link.client(_RECOVERY) as client:
                client.delete(*finished)
            for key in finished:
                del self.appenders.ledger.records[key]

    def _read(self, client: Redis, closed: dict[str, Record], result: Result) -> None:
        verdict = result.verdict
        present = set(client.scan_iter(f"{self.appenders.prefix}-*", 1000))
        for key in present - self.appenders.ledger.records.keys():
            verdict.phantom.extend((key, int(value)) for value in client.lrange(key, 0, -1))
        for key, record in closed.items():
            result.compared += len(record.outcomes)
            record.compare(key, map(int, client.lrange(key, 0, -1)), verdict)


def _offset(client: Redis) -> int:
    info = client.info("replication")
    return int(info["master_repl_offset"] if info["role"] == "master" else info["slave_repl_offset"])


@dataclass(slots=True)
class Tally:
    """All faults of one kind."""

    results: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Add a fault."""
        self.results.append(result)

    def summary(self) -> dict[str, Any]:
        """Return the counts; times in seconds."""
        results = self.results
        stalls = sorted(result.longest_stall for result in results)
        firsts = sorted(result.first_write for result in results if result.first_write is not None)

        def total(count: Callable[[Result], int]) -> int:
            return sum(count(each) for each in results)

        return {
            "faults": len(results),
            "acknowledged": total(lambda each: each.acknowledged),
            "failed": total(lambda each: each.failed),
            "indeterminate": total(lambda each: each.indeterminate),
            "compared": total(lambda each: each.compared),
            "lost": total(lambda each: len(each.verdict.lost)),
            "duplicated": total(lambda each: len(each.verdict.duplicated)),
            "reordered": total(lambda each: len(each.verdict.reordered)),
            "phantom": total(lambda each: len(each.verdict.phantom)),
            "replayed": total(lambda each: each.replayed),
            "fenced": total(lambda each: each.fenced),
            "longest_stall_seconds": _median_and_max(stalls),
            "first_write_seconds": _median_and_max(firsts),
            "problems": [problem for each in results for problem in each.problems],
        }


def _median_and_max(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"median": round(values[len(values) // 2], 3), "max": round(values[-1], 3)}
