"""Runs one drill: live traffic, the fault, the healing, the comparison one by one, the verdict."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from . import verdict
from .faults import Fault
from .interrupts import uninterrupted
from .ledger import Verdict
from .limits import Limits
from .observer import Observer
from .records import Record, compare_trader
from .results import AppenderCounts, DrillResult, Event, NodeSpan, TraderCounts
from .stack import NODES, DockerError, Stack
from .traffic import Traffic, wait_until_replicated
from .waiting import wait_until

#: Seconds of traffic before the fault, after writes went on, and after everything is whole again.
_STEADY, _AFTERMATH, _AFTER = 2.0, 1.0, 2.0
#: Seconds until everything has to be well again.
_RECOVERY = 120.0
#: Differences that a result shows; there may be thousands.
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Identity:
    """The node's process: unchanged means that it was not restarted."""

    container_started: str
    restarts: int
    pid: int
    started_ns: int


def identity(stack: Stack) -> Identity:
    """Return the node's process as it is now."""
    container = stack.inspect_container("trader")
    report = stack.report("--ping")
    return Identity(container["State"]["StartedAt"], container["RestartCount"], report["pid"], report["started_ns"])


class Drill:
    """One run of one fault on one stack. ``says`` is told each phase as it begins, for a live view."""

    def __init__(
        self,
        stack: Stack,
        kind: type[Fault],
        limits: Limits,
        chance: random.Random,
        says: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stack = stack
        self._kind = kind
        self._limits = limits
        self._chance = chance
        self._says = says
        self.traffic = Traffic(stack)
        self.observer = Observer(stack)
        self._events: list[Event] = []
        #: When each node's container was started last, in seconds since the beginning.
        self._started: dict[str, float] = {}
        self._evidence = verdict.Evidence(
            verdict.Expectation(
                kind.changes_master,
                kind.interrupts_writes,
                kind.interrupts_trader,
                kind.restarts_trader,
                kind.promotes_unhealed,
                kind.resumes_unhealed,
            ),
            began=time.time(),
        )

    def run(self, repetition: int = 1) -> DrillResult:
        """Run it and return what was found; whatever happens, what was broken is healed."""
        started = datetime.now(UTC)
        reason = self._kind.unavailable(self._stack)
        if reason:
            self._says(f"skipped: {reason}")
            return self._result(started, repetition, skipped=reason)
        evidence = self._evidence
        self.observer.start()
        try:
            self._says("starting the traffic")
            self.traffic.start()
            evidence.began = time.time()
            self._says("steady")
            time.sleep(_STEADY)
            known, before, process = self._break_and_heal()
            time.sleep(_AFTER)
            evidence.ended = time.time()
            self._says("comparing")
            self._compare(known, before, process)
        except Exception as error:
            # Whatever it was: this drill has failed, and the others go on.
            known = isinstance(error, DockerError | TimeoutError | RuntimeError | OSError)
            evidence.trouble = str(error) if known else repr(error)
        finally:
            self.traffic.close()
            self.observer.stop()
        return self._result(started, repetition)

    def _break_and_heal(self) -> tuple[dict[str, Record], dict[str, Any], Identity]:
        stack, evidence = self._stack, self._evidence
        fault = self._kind(stack, self._chance)
        evidence.old_master = fault.master
        try:
            self._says("preparing")
            fault.prepare()
            known = {trader.service: trader.report() for trader in stack.traders}
            # What Nautilus still buffers dies with it; a few batches later it is in the link's hands.
            for trader in stack.traders:
                trader.wait_for_writes_on(fault.master, 3)
            before, process = stack.link(), identity(stack)
            self._says("fault")
            evidence.inject = self._note("inject", fault.summary)
            fault.inject()
            evidence.injected = fault.struck or time.time()
            evidence.effect = fault.confirm()
            evidence.confirmed = self._note("effect", evidence.effect)
            if fault.resumes_unhealed:
                self._says("waiting for writes")
                self._wait_for_writes(evidence.confirmed)
                time.sleep(_AFTERMATH)
            if fault.known:
                known[stack.trader.service] = fault.known
        finally:
            self._says("healing")
            evidence.heal = self._note("heal", "")
            with uninterrupted(self._says):
                fault.heal()
            evidence.healed = time.time()
        self._says("recovery")
        wait_until(stack.whole, _RECOVERY, "one master with two replicas in sync", 0.05)
        evidence.whole = self._note("whole", "one master, two replicas in sync, every Sentinel could fail over")
        self._wait_for_writes(evidence.whole)
        stack.wait_until_traders_are_well(_RECOVERY)
        for trader in stack.traders:
            trader.wait_for_writes_on(stack.master(), seconds=_RECOVERY)
        evidence.new_master = stack.master()
        evidence.promoted = self.observer.promotion(evidence.inject, fault.master)
        return known, before, process

    def _wait_for_writes(self, since: float) -> None:
        traffic = self.traffic
        wait_until(
            lambda: traffic.tick.last is not None and traffic.tick.last + traffic.clock > since,
            _RECOVERY,
            "the appender's writes are acknowledged",
            0.05,
        )

    def _compare(self, known: dict[str, Record], before: dict[str, Any], process: Identity) -> None:
        stack, evidence = self._stack, self._evidence
        accepted = self.traffic.stop()
        evidence.operations = accepted.operations
        wait_until_replicated(stack)
        # Every node on its own: what one of them lacks is one failover away from being lost.
        found = {node: self.traffic.compare(accepted, node) for node in NODES}
        began = evidence.began
        self._started = {node: datetime.fromisoformat(stack.start_times()[node]).timestamp() - began for node in NODES}
        evidence.appender = _worst(list(found.values()), accepted.link)
        evidence.appender_compared = True
        for node, each in found.items():
            if not each.exact:
                evidence.differences.append(f"the appender's lists on {node}: {each.differences()}")
        self.traffic.clean()
        compared = {trader.service: compare_trader(stack, known[trader.service], trader) for trader in stack.traders}
        after = stack.link()
        evidence.trader = _sum(comparison.counts for comparison in compared.values())
        # Every one of them: those of the first would hide that nothing of the second was there to compare.
        evidence.trader_compared = all(each.counts.positions and each.counts.orders for each in compared.values())
        for comparison in compared.values():
            evidence.differences += comparison.differences[:_SHOWN]
        caught = _since(before, after, ("told_early", "lost_replies", "replayed", "holds"))
        evidence.trader_caught = caught
        evidence.trader.replayed = _since(before, after, ("replayed",))
        first = stack.trader.service
        evidence.trader.orders_during_fault = len(compared[first].orders - known[first]["orders"].keys())
        evidence.trader_restarted = identity(stack) != process

    def interrupted(self, repetition: int = 1) -> DrillResult:
        """Return what a run had found that somebody ended."""
        self._evidence.trouble = "interrupted: it ended before the recovery"
        return self._result(datetime.fromtimestamp(self._evidence.began, UTC), repetition)

    def _note(self, kind: str, text: str) -> float:
        now = time.time()
        self._events.append(Event(at=now, source="drill", kind=kind, text=text))
        return now

    def _result(self, started: datetime, repetition: int, skipped: str = "") -> DrillResult:
        evidence = self._evidence
        result = DrillResult(
            name=self._kind.name,
            summary=self._kind.summary,
            repetition=repetition,
            started=started.isoformat(timespec="milliseconds"),
            duration=time.time() - started.timestamp(),
        )
        if skipped:
            result.status, result.reason = "skipped", skipped
            return result
        spans = self._spans()
        evidence.two_masters = verdict.came_up_beside(spans, self._started)
        result.effect = evidence.effect
        result.phases = verdict.phases(evidence)
        result.checks = verdict.checks(evidence, self._limits)
        result.appender, result.trader = evidence.appender, evidence.trader
        result.availability = verdict.availability(evidence)
        result.timeline = verdict.timeline(evidence)
        result.nodes = spans
        result.events = self._all_events()
        failed = [check for check in result.checks if not check.passed]
        result.status = "failed" if failed else "passed"
        result.reason = evidence.trouble or "; ".join(f"{check.name}: {check.detail}" for check in failed)
        return result

    def _all_events(self) -> list[Event]:
        published = [
            Event(at=event.at, source=event.sentinel, kind=event.kind, text=event.text)
            for event in self.observer.events
        ]
        events = sorted([*self._events, *published], key=lambda event: event.at)
        return [event.model_copy(update={"at": round(event.at - self._evidence.began, 3)}) for event in events]

    def _spans(self) -> list[NodeSpan]:
        """Return what each node said of itself, from the beginning on."""
        began, ended = self._evidence.began, self._evidence.ended or time.time()
        spans = []
        for node in NODES:
            said = [each for each in self.observer.changes if each.node == node]
            ends = [*(each.at for each in said[1:]), ended]
            for each, end in zip(said, ends, strict=True):
                if end > began and each.at < ended:
                    start = max(each.at, began) - began
                    spans.append(NodeSpan(node=node, began=start, ended=min(end, ended) - began, state=each.state))
        return spans


def _sum(found: Iterable[TraderCounts]) -> TraderCounts:
    """Return the counts of all traders together."""
    total: Counter[str] = Counter()
    for counts in found:
        total.update(counts.model_dump())
    return TraderCounts(**total)


def _worst(found: list[Verdict], link: dict[str, Any]) -> AppenderCounts:
    """Return the counts, and of each kind of difference what the node with the most of it shows."""
    first = found[0]
    return AppenderCounts(
        acknowledged=first.ok,
        failed=first.failed,
        indeterminate=first.indeterminate,
        lost=max(len(each.lost) for each in found),
        duplicated=max(len(each.duplicated) for each in found),
        reordered=max(len(each.reordered) for each in found),
        phantom=max(len(each.phantom) for each in found),
        replayed=link["replayed"],
    )


def _since(before: dict[str, Any], after: dict[str, Any], names: tuple[str, ...]) -> int:
    """Return how much counters of a link have risen; those of a new process began at zero."""
    same = before["started_at"] == after["started_at"]
    return int(sum(after[name] - (before[name] if same else 0) for name in names))
