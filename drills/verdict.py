"""Decides whether a drill passed. No I/O: what was measured goes in, the checks come out.

Silence is never success: a drill fails if no fault took effect, no operation was under way, a phase had no samples, or
the run ended before everything was well again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .limits import Limits
from .results import BUCKET, AppenderCounts, Availability, Bucket, Check, NodeSpan, Phase, TraderCounts
from .traffic import Operation

#: An operation was caught by the fault if it took so many times as long as usual, and at least so many seconds.
_CAUGHT_FACTOR, _CAUGHT_LEAST = 5.0, 0.15
#: Two nodes are asked at different moments: for so long both may seem to be the master.
_ONE_LOOK = 0.5
#: An operation that waits for so many seconds of a phase, or for half of it, is a sample of that phase.
_A_WAIT = 0.25


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a fault is to do; see :class:`~drills.faults.base.Fault`."""

    changes_master: bool | None = True
    interrupts_writes: bool = True
    interrupts_trader: bool = True
    restarts_trader: bool = False
    promotes_unhealed: bool = True
    resumes_unhealed: bool = True


@dataclass(slots=True)
class Evidence:
    """Everything that one run of a drill has found. Times in Unix seconds, None: it was not reached."""

    expected: Expectation
    began: float
    #: When the fault was about to be made, when it had been made, and when it was seen to work.
    inject: float | None = None
    injected: float | None = None
    confirmed: float | None = None
    #: When the healing began and ended; when all was whole again; when the traffic ended.
    heal: float | None = None
    healed: float | None = None
    whole: float | None = None
    ended: float | None = None
    effect: str = ""
    old_master: str = ""
    new_master: str = ""
    promoted: float | None = None
    operations: Sequence[Operation] = ()
    appender: AppenderCounts = field(default_factory=AppenderCounts)
    trader: TraderCounts = field(default_factory=TraderCounts)
    #: Whether both were compared at all.
    appender_compared: bool = False
    trader_compared: bool = False
    #: The first differences, for people.
    differences: list[str] = field(default_factory=list)
    #: Writes of the trader's link that waited or were sent again while the fault lasted.
    trader_caught: int = 0
    trader_restarted: bool = False
    #: For how many seconds a node that was restarted served as master beside another one.
    two_masters: float = 0.0
    #: What went wrong with the drill itself.
    trouble: str = ""


def phases(evidence: Evidence) -> list[Phase]:
    """Return the phases that were reached, in seconds since the beginning."""
    edges = (evidence.began, evidence.inject, evidence.heal, evidence.whole, evidence.ended)
    names = ("steady", "fault", "recovery", "after")
    found = []
    for name, began, ended in zip(names, edges, edges[1:], strict=False):
        if began is None or ended is None:
            break
        acknowledged = sum(op.acknowledged for op in evidence.operations if began <= op.ended < ended)
        found.append(
            Phase(name=name, began=began - evidence.began, ended=ended - evidence.began, acknowledged=acknowledged)  # type: ignore[arg-type]
        )
    return found


def availability(evidence: Evidence) -> Availability:
    """Return how long writes waited."""
    answered = sorted(op.ended for op in evidence.operations if op.acknowledged)
    ends = [*answered, *([evidence.ended] if evidence.ended is not None else [])]
    stall = max((later - earlier for earlier, later in itertools.pairwise(ends)), default=0.0)
    found = Availability(longest_stall=stall)
    if evidence.injected is not None:
        injected = evidence.injected
        # Where no failover is possible before the healing, it is counted from there.
        since = injected if evidence.expected.promotes_unhealed else evidence.heal
        if evidence.promoted is not None and since is not None:
            found.promotion = max(0.0, evidence.promoted - since)
        if evidence.whole is not None:
            found.redundancy = evidence.whole - injected
        written = [op.ended for op in evidence.operations if op.acknowledged and op.began >= injected]
        found.first_write = min(written) - injected if written else None
    if evidence.whole is not None and evidence.healed is not None:
        found.redundancy_after_heal = evidence.whole - evidence.healed
    return found


def timeline(evidence: Evidence) -> list[Bucket]:
    """Return the acknowledged operations by tenths of a second."""
    buckets: dict[int, list[Operation]] = {}
    for op in evidence.operations:
        if op.acknowledged:
            buckets.setdefault(int((op.ended - evidence.began) / BUCKET), []).append(op)
    found = []
    for number, ops in sorted(buckets.items()):
        took = sorted((op.ended - op.began) * 1000 for op in ops)
        found.append(
            Bucket(
                at=round(number * BUCKET, 3),
                acknowledged=sum(op.acknowledged for op in ops),
                median_ms=round(took[len(took) // 2], 3),
                longest_ms=round(took[-1], 3),
            )
        )
    return found


def caught(evidence: Evidence) -> int:
    """Return how many operations were under way while the fault took hold, and waited for it."""
    if evidence.inject is None or evidence.confirmed is None:
        return 0
    usual = sorted(op.ended - op.began for op in evidence.operations if op.ended < evidence.inject)
    slow = max(_CAUGHT_LEAST, _CAUGHT_FACTOR * usual[len(usual) // 2]) if usual else _CAUGHT_LEAST
    end = max(evidence.confirmed, evidence.heal or 0.0)
    return sum(
        op.ended - op.began >= slow for op in evidence.operations if op.began <= end and op.ended >= evidence.inject
    )


def came_up_beside(spans: Sequence[NodeSpan], started: Mapping[str, float]) -> float:
    """Return for how many seconds a node that was restarted served as master while another one did.

    ``started``: when each node was started last. A master that hung or was cut off cannot know yet that it was
    replaced; one that starts has to ask first.
    """
    masters = [span for span in spans if span.state == "master"]
    total = 0.0
    for node, at in started.items():
        heard = [span for span in spans if span.node == node and span.state != "silent" and span.began >= at > 0.0]
        # What it says first is what it has come up as; later it may have been promoted.
        first = min(heard, key=lambda span: span.began, default=None)
        if first is not None and first.state == "master":
            total += sum(
                max(0.0, min(first.ended, other.ended) - max(first.began, other.began))
                for other in masters
                # One that was promoted while this one started, it could not know of.
                if other.node != node and other.began < at
            )
    return total


def under_way(operations: Iterable[Operation], began: float, ended: float) -> int:
    """Return how many operations were under way at some moment of a time."""
    return sum(1 for op in operations if op.began <= ended and op.ended >= began)


def longest_wait(evidence: Evidence, began: float, ended: float) -> float:
    """Return for how many seconds of a time one operation was under way."""
    return max((min(op.ended, ended) - max(op.began, began) for op in evidence.operations), default=0.0)


def checks(evidence: Evidence, limits: Limits) -> list[Check]:
    """Return the conditions of the verdict; the drill passed if all of them are met."""
    return [
        *_took_place(evidence),
        *_survived(evidence, limits),
        *_in_time(evidence, limits),
    ]


def _took_place(evidence: Evidence) -> list[Check]:
    expected = evidence.expected
    made = evidence.confirmed is not None and bool(evidence.effect)
    found = [
        Check(name="the fault took effect", passed=made, detail=evidence.effect or evidence.trouble or "no effect")
    ]
    if expected.changes_master:
        moved = bool(evidence.new_master) and evidence.new_master != evidence.old_master
        detail = f"{evidence.old_master} to {evidence.new_master or 'nobody'}"
        found.append(Check(name="another node is master", passed=moved, detail=detail))
    elif expected.changes_master is False:
        same = bool(evidence.new_master) and evidence.new_master == evidence.old_master
        detail = f"{evidence.old_master}, then {evidence.new_master or 'nobody'}"
        found.append(Check(name="the master stayed", passed=same, detail=detail))
    two = evidence.two_masters
    detail = f"for {two:.1f} s" if two else "none"
    found.append(Check(name="no restarted node is a second master", passed=two <= _ONE_LOOK, detail=detail))
    if evidence.inject is not None and evidence.confirmed is not None:
        count = under_way(evidence.operations, evidence.inject, evidence.confirmed)
        found.append(
            Check(name="operations were in flight", passed=count > 0, detail=f"{count} while the fault took hold")
        )
    else:
        found.append(Check(name="operations were in flight", passed=False, detail="there was no fault"))
    if expected.interrupts_writes:
        count = caught(evidence)
        found.append(Check(name="writes waited", passed=count > 0, detail=f"{count} of the appender's operations"))
    if expected.interrupts_trader:
        count = evidence.trader_caught
        found.append(
            Check(name="the trader's writes waited", passed=count > 0, detail=f"{count} batches held or sent again")
        )
    orders = evidence.trader.orders_during_fault
    found.append(Check(name="the node traded on", passed=orders > 0, detail=f"{orders} orders since the fault"))
    reached = {phase.name: phase for phase in phases(evidence)}
    for name in ("steady", "fault", "recovery", "after"):
        phase = reached.get(name)
        if phase is None:
            found.append(Check(name=f"samples: {name}", passed=False, detail="not reached"))
            continue
        waited = longest_wait(evidence, evidence.began + phase.began, evidence.began + phase.ended)
        # Where writes wait, an operation that waits is the sample.
        waits = name in ("fault", "recovery") and waited >= min(_A_WAIT, (phase.ended - phase.began) / 2)
        enough = phase.acknowledged > 0 or waits
        detail = f"{phase.acknowledged} acknowledged" + (f", one waited for {waited:.2f} s of it" if waits else "")
        found.append(Check(name=f"samples: {name}", passed=enough, detail=detail))
    recovered = evidence.whole is not None and evidence.ended is not None
    found.append(
        Check(
            name="everything is well again",
            passed=recovered and not evidence.trouble,
            detail=evidence.trouble or ("whole, and trading" if recovered else "ended before the recovery"),
        )
    )
    return found


def _survived(evidence: Evidence, limits: Limits) -> list[Check]:
    found = []
    appender, trader = evidence.appender, evidence.trader
    why = "; ".join(evidence.differences[:3])
    for who, counts, compared, names in (
        ("appender", appender, evidence.appender_compared, ("lost", "duplicated", "reordered", "phantom")),
        ("trader", trader, evidence.trader_compared, ("lost", "duplicated", "wrong", "phantom")),
    ):
        total = (
            f"{appender.acknowledged} appends"
            if who == "appender"
            else f"{trader.positions} positions, {trader.orders} orders, {trader.fills} fills"
        )
        for name in names:
            count, allowed = getattr(counts, name), getattr(limits, name)
            good = compared and count <= allowed
            detail = f"{count} of {total} (allowed: {allowed})" if compared else "not compared"
            found.append(
                Check(name=f"{who}: {name}", passed=good, detail=detail if good or not why else f"{detail}: {why}")
            )
    found.append(_at_most("appender: refused", appender.failed, limits.refused))
    found.append(_at_most("appender: indeterminate", appender.indeterminate, limits.indeterminate))
    something = appender.acknowledged > 0 and trader.positions > 0 and trader.orders > 0
    detail = f"{appender.acknowledged} appends, {trader.positions} positions, {trader.orders} orders"
    found.append(Check(name="something was compared", passed=something, detail=detail))
    if not evidence.expected.restarts_trader:
        detail = "another process" if evidence.trader_restarted else "the same process"
        found.append(Check(name="the node was not restarted", passed=not evidence.trader_restarted, detail=detail))
    return found


def _in_time(evidence: Evidence, limits: Limits) -> list[Check]:
    times = availability(evidence)
    if evidence.expected.resumes_unhealed:
        found = [_within("longest stall", times.longest_stall, limits.longest_stall)]
    else:
        # The drill decides how long there is nobody to write to; what follows the healing is ours.
        healed = evidence.healed
        after = [
            op.ended for op in evidence.operations if op.acknowledged and healed is not None and op.ended >= healed
        ]
        waited = min(after) - healed if after and healed is not None else None
        found = [_within("writes after the healing", waited, limits.longest_stall)]
    if evidence.expected.changes_master:
        found.append(_within("promotion", times.promotion, limits.promotion))
    found.append(
        _within("full redundancy after the healing", times.redundancy_after_heal, limits.redundancy_after_heal)
    )
    return found


def _at_most(name: str, count: int, allowed: int) -> Check:
    return Check(name=name, passed=count <= allowed, detail=f"{count} (allowed: {allowed})")


def _within(name: str, seconds: float | None, allowed: float) -> Check:
    if seconds is None:
        return Check(name=name, passed=False, detail="not measured")
    return Check(name=name, passed=seconds <= allowed, detail=f"{seconds:.2f} s (allowed: {allowed:g} s)")
