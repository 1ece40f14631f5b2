"""Reports of drills as runs give them, made of nothing but a seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from drills.results import (
    AppenderCounts,
    Availability,
    Bucket,
    Check,
    DrillReport,
    DrillResult,
    Environment,
    Event,
    NodeSpan,
    Phase,
    TraderCounts,
)

NODES = ("redis-1", "redis-2", "redis-3")
SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
_STARTED = datetime(2026, 11, 24, 22, 5, 41, tzinfo=UTC)
#: Names and summaries as people meet them, for a run of everything.
CATALOGUE = {
    "kill-master": "the master is killed",
    "kill-master-and-sentinel": "the master and one Sentinel are killed in one moment",
    "freeze-master": "the master hangs: its connections stay open and silent",
    "freeze-longer-than-failover": "the master hangs until another is promoted, then goes on and believes that it is "
    "the master still",
    "two-failovers": "the master is killed, comes back, and its successor is killed right away",
    "partition-master": "the master is cut off from everybody",
    "partition-master-with-trader": "the master and the trader are cut off together from everybody else",
    "partition-trader": "the trader alone is cut off",
    "slow-network": "every packet of the master is 80 ms late and one in fifty is lost",
    "lagging-replica": "a replica that lags behind is promoted",
    "power-loss": "the master is killed and the end of its AOF cut off, as a disk does that loses power",
    "corrupted-aof": "the master is killed and the end of its AOF overwritten with garbage",
    "disk-full": "the master's disk has no room left",
    "memory-limit": "the master reaches its memory limit",
    "sentinels-restarted": "all Sentinels are restarted while the master is away",
    "two-sentinels-gone": "two of three Sentinels are gone, so nobody may fail over",
    "full-resync": "a replica loses its data and copies everything again",
    "switchover": "another master is chosen on purpose, with nothing broken",
    "rolling-restart": "every container is restarted, one by one",
    "rolling-upgrade": "every Redis node is replaced by another image, one by one",
    "kill-trader": "the trader is killed while there is no master",
    "kill-everything": "the whole stack is killed at once and started again",
    "clock-jump": "the clock of the host jumps by an hour",
    "kill-replica": "a replica is killed",
    "freeze-trader": "the trader hangs",
}
_REDUNDANT = "one master with two replicas in sync, every Sentinel ready"


def _chance(seed: object) -> random.Random:
    return random.Random(str(seed))  # noqa: S311 # the same report each time


def passed(
    name: str = "kill-master", repetition: int = 1, *, stall: float = 1.83, length: float = 32.0, seed: int = 7
) -> DrillResult:
    """Return a drill that was survived: one failover with a stall of so many seconds (0: none)."""
    chance = _chance(f"{name} {repetition} {seed}")
    inject, heal = 5.0, length * 0.5
    whole = heal + 4.2
    old, new, other = chance.sample(NODES, 3)
    timeline = _buckets(chance, length, [(inject + 0.02, inject + 0.02 + stall)] if stall else [])
    promoted = inject + max(0.2, stall - 0.55)
    acknowledged = sum(bucket.acknowledged for bucket in timeline)
    return DrillResult(
        name=name,
        summary=CATALOGUE.get(name, "something is broken"),
        repetition=repetition,
        status="passed",
        started=(_STARTED + timedelta(minutes=chance.randrange(90))).isoformat(),
        duration=length,
        effect=f"{new} was promoted in place of {old}" if stall else f"{old} was busy",
        phases=_phases(inject, heal, whole, length, timeline),
        checks=_checks(stall, acknowledged),
        appender=AppenderCounts(
            acknowledged=acknowledged, indeterminate=chance.randrange(4), replayed=chance.randrange(30, 900)
        ),
        trader=TraderCounts(
            positions=188, orders=512, fills=512, accounts=1, orders_during_fault=204, replayed=chance.randrange(40)
        ),
        availability=Availability(
            longest_stall=stall or 0.041,
            promotion=promoted - inject if stall else None,
            first_write=stall + 0.02 if stall else None,
            redundancy=whole - inject,
            redundancy_after_heal=whole - heal,
        ),
        timeline=timeline,
        nodes=_spans(old, new, other, inject, promoted, heal, length) if stall else _steady(old, length),
        events=_events(chance, old, new, inject, heal, promoted if stall else None),
    )


def failed(name: str = "power-loss", repetition: int = 1) -> DrillResult:
    """Return a drill that lost writes: three stalls, and a node that stayed silent."""
    drill = passed(name, repetition, stall=2.44, length=41.0)
    chance = _chance(f"failed {name} {repetition}")
    gaps = [(5.02, 7.46), (11.3, 12.1), (22.05, 22.72)]
    acknowledged = 61_204
    drill.status = "failed"
    drill.reason = "41 acknowledged appends are in no data set"
    drill.timeline = _buckets(chance, 41.0, gaps)
    drill.appender = AppenderCounts(
        acknowledged=acknowledged, failed=2, indeterminate=17, lost=41, duplicated=3, reordered=1, replayed=377
    )
    drill.trader.lost = 2
    drill.checks = [
        *[check for check in drill.checks if check.name not in ("lost", "duplicated", "trader: lost")],
        Check(
            name="lost",
            passed=False,
            detail="41 of 61,204 acknowledged appends are missing on redis-2: appender-redispy-pipeline-16-1-0 "
            '[8817..8857]; the last one that is there is <8816>, "acknowledged" & applied',
        ),
        Check(name="duplicated", passed=False, detail="3 appends are there twice: [9001, 9002, 9003]"),
        Check(
            name="trader: lost",
            passed=False,
            detail="orders O-20261124-220612-001-001-1881 and O-20261124-220612-001-001-1882 are in no data set",
        ),
    ]
    return drill


def skipped(name: str = "clock-jump", repetition: int = 1) -> DrillResult:
    """Return a drill that this host cannot do."""
    return DrillResult(
        name=name,
        summary=CATALOGUE.get(name, "something is broken"),
        repetition=repetition,
        status="skipped",
        reason="the kernel has no time namespaces, and the clock of this host is not the drills' to set",
        started=_STARTED.isoformat(),
    )


def odd() -> list[DrillResult]:
    """Return drills of which little or too much is known."""
    nothing = DrillResult(
        name="no-samples", summary="it ended before it began", reason="no operation was in flight", started="unknown"
    )
    silent = passed("all-silent", stall=1.0)
    silent.timeline = []
    silent.nodes = [NodeSpan(node=node, began=0.0, ended=silent.duration, state="silent") for node in NODES]
    text = passed("<script>alert('&')</script>", stall=1.0)
    text.summary = 'a name with < & > "quotes", and a line\nbreak'
    text.effect = text.reason = "</section><script>document.title = 'taken'</script>"
    text.events = [
        Event(at=i * 0.01, source=f"<b>{i}</b>", kind="+sdown", text="\x1b[31mred\x00\ufffe & 'x' \"y\" " * 6)
        for i in range(3000)
    ]
    text.checks.append(Check(name="a" * 300, passed=True, detail="no-room-to-break-this-text" * 40))
    one = passed("one-bucket", stall=0.0)
    one.timeline, one.nodes, one.phases = one.timeline[:1], one.nodes[:1], one.phases[:1]
    return [nothing, silent, text, one]


def report(*drills: DrillResult, seed: int = 20261124) -> DrillReport:
    """Return a run of these drills."""
    return DrillReport(
        seed=seed,
        started=_STARTED.isoformat(),
        duration=sum(drill.duration for drill in drills) + 4.0,
        environment=Environment(
            project="nautilus-redis-ha-drill",
            redis_version="7.0.15",
            docker_version="28.5.2",
            kernel="6.12.43+deb13-amd64",
            cpus=2,
            trader_id="TRADER-001",
        ),
        drills=list(drills),
    )


def example() -> DrillReport:
    """Return a small run in which everything occurs."""
    return report(
        passed(),
        passed("freeze-longer-than-failover", stall=2.31, length=44.0),
        failed(),
        passed("switchover", stall=0.0, length=24.0),
        skipped(),
    )


def everything(repetitions: int = 3) -> DrillReport:
    """Return a run of all drills, several times, in random order."""
    chance = _chance(3)
    drills = []
    for repetition in range(1, repetitions + 1):
        names = list(CATALOGUE)
        chance.shuffle(names)
        for name in names:
            if name == "clock-jump":
                drills.append(skipped(name, repetition))
            elif name == "power-loss" and repetition == min(2, repetitions):
                drills.append(failed(name, repetition))
            else:
                stall = 0.0 if name in ("full-resync", "kill-replica", "switchover") else chance.uniform(0.9, 3.1)
                length = chance.uniform(24.0, 70.0)
                drills.append(passed(name, repetition, stall=stall, length=length))
    return report(*drills)


def _buckets(chance: random.Random, length: float, gaps: list[tuple[float, float]]) -> list[Bucket]:
    buckets = []
    for index in range(int(length * 10)):
        at = index / 10
        if any(began < at + 0.1 and at + 0.1 <= ended for began, ended in gaps):
            continue
        median = chance.lognormvariate(-0.2, 0.25)
        longest = median * chance.lognormvariate(1.6, 0.45)
        acknowledged = chance.randrange(120, 190)
        for began, ended in gaps:
            if at <= ended < at + 0.1:
                longest, median = (ended - began) * 1000, 3.0
            elif ended < at < ended + 1.2:
                median, longest = median * 2.2, longest * 3
        buckets.append(Bucket(at=at, acknowledged=acknowledged, median_ms=round(median, 3), longest_ms=longest))
    return buckets


def _phases(inject: float, heal: float, whole: float, length: float, timeline: list[Bucket]) -> list[Phase]:
    bounds = (0.0, inject, heal, whole, length)
    return [
        Phase(
            name=name,
            began=began,
            ended=ended,
            acknowledged=sum(bucket.acknowledged for bucket in timeline if began <= bucket.at < ended),
        )
        for name, began, ended in zip(("steady", "fault", "recovery", "after"), bounds[:-1], bounds[1:], strict=True)
    ]


def _checks(stall: float, acknowledged: int) -> list[Check]:
    return [
        Check(name="fault took effect", passed=True, detail="another node says that it is the master"),
        Check(name="operations in flight", passed=True, detail="19 when the fault was made"),
        Check(name="samples in every phase", passed=True, detail="4 of 4 phases, at least 612 acknowledgements"),
        Check(name="recovered", passed=True, detail=_REDUNDANT),
        Check(name="longest stall", passed=True, detail=f"{stall:.2f} s of at most 15 s"),
        Check(name="lost", passed=True, detail=f"0 of {acknowledged:,} acknowledged appends, compared on 3 nodes"),
        Check(name="duplicated", passed=True, detail="0"),
        Check(name="reordered", passed=True, detail="0"),
        Check(name="phantom", passed=True, detail="0"),
        Check(name="trader: lost", passed=True, detail="0 of 188 positions, 512 orders, 1 account"),
        Check(name="trader: wrong", passed=True, detail="0"),
        Check(name="trader not restarted", passed=True, detail="the same process, started 22:05:11"),
    ]


def _steady(master: str, length: float) -> list[NodeSpan]:
    return [
        NodeSpan(node=node, began=0.0, ended=length, state="master" if node == master else "replica") for node in NODES
    ]


def _spans(
    old: str, new: str, other: str, inject: float, promoted: float, heal: float, length: float
) -> list[NodeSpan]:
    return [
        NodeSpan(node=old, began=0.0, ended=inject, state="master"),
        NodeSpan(node=old, began=inject, ended=heal + 0.9, state="silent"),
        NodeSpan(node=old, began=heal + 0.9, ended=length, state="replica"),
        NodeSpan(node=new, began=0.0, ended=promoted, state="replica"),
        NodeSpan(node=new, began=promoted, ended=length, state="master"),
        NodeSpan(node=other, began=0.0, ended=length, state="replica"),
    ]


def _events(
    chance: random.Random, old: str, new: str, inject: float, heal: float, promoted: float | None
) -> list[Event]:
    def address(node: str) -> str:
        return f"172.28.77.1{node[-1]}"

    events = [Event(at=inject, source="drill", kind="inject", text=f"{old} is struck")]
    if promoted is not None:
        down = promoted - 0.3
        for sentinel in SENTINELS:
            late = chance.uniform(0, 0.08)
            master = f"master mymaster {address(old)} 6379"
            events.append(Event(at=down - 0.12 + late, source=sentinel, kind="+sdown", text=master))
            events.append(Event(at=down + 0.05 + late, source=sentinel, kind="+new-epoch", text="14"))
            switch = f"mymaster {address(old)} 6379 {address(new)} 6379"
            events.append(Event(at=promoted + 0.2 + late, source=sentinel, kind="+switch-master", text=switch))
        leader = chance.choice(SENTINELS)
        for at, kind, text in (
            (down, "+odown", f"master mymaster {address(old)} 6379 #quorum 2/2"),
            (down + 0.01, "+try-failover", f"master mymaster {address(old)} 6379"),
            (down + 0.09, "+elected-leader", f"master mymaster {address(old)} 6379"),
            (down + 0.19, "+selected-slave", f"slave {address(new)}:6379 {address(new)} 6379 @ mymaster"),
            (promoted, "+promoted-slave", f"slave {address(new)}:6379 {address(new)} 6379 @ mymaster"),
        ):
            events.append(Event(at=at, source=leader, kind=kind, text=text))
        events.append(Event(at=promoted + 0.5, source="link", kind="hold_ended", text="12 entries sent again"))
    events.append(Event(at=heal, source="drill", kind="heal", text=f"{old} is started"))
    events.append(Event(at=heal + 4.2, source="drill", kind="whole", text=_REDUNDANT))
    return events
