"""What a chart shows of a drill, taken from its record; no drawing here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from drills.results import BUCKET, Bucket, DrillResult, NodeSpan

#: So many seconds without an acknowledgement are a stall worth a mark: three buckets, as one or two may be chance.
STALL = 0.3

#: Below any time that is told.
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Stall:
    """A time in which no write was acknowledged; seconds since the start of the drill."""

    began: float
    ended: float
    #: Its length as far as it is known: exact for the longest one, else to a tenth.
    length: float
    #: Writes went on after it, as far as was watched.
    over: bool = True

    @property
    def label(self) -> str:
        """What stands beside it."""
        return f"stall {self.length:.2f} s" if self.over else "no write any more"


def end(drill: DrillResult) -> float:
    """Return when the last thing happened that a chart shows, at least one second."""
    ends = [
        *(phase.ended for phase in drill.phases),
        *(bucket.at + BUCKET for bucket in drill.timeline),
        *(span.ended for span in drill.nodes),
        *(at for at, _ in marks(drill)),
    ]
    return max(1.0, *ends) if ends else max(1.0, drill.duration)


def acknowledging(drill: DrillResult) -> list[Bucket]:
    """Return the buckets with an acknowledgement in them, in order of time."""
    return sorted((bucket for bucket in drill.timeline if bucket.acknowledged > 0), key=lambda bucket: bucket.at)


def stalls(drill: DrillResult) -> list[Stall]:
    """Return the gaps between acknowledgements that are long enough to be seen, in order of time.

    The buckets tell a gap's length to a tenth of a second. What was measured exactly is taken where it agrees: how long
    the oldest operation had waited that ended the gap, and the longest stall.
    """
    buckets = acknowledging(drill)
    if not buckets:
        return []
    # Within its bucket an acknowledgement may have been early or late: from middle to middle is right on average.
    middles = [bucket.at + BUCKET / 2 for bucket in buckets]
    gaps = [
        (after - before, after, bucket.longest_ms / 1000)
        for before, after, bucket in zip(middles[:-1], middles[1:], buckets[1:], strict=True)
        if after - before - BUCKET >= STALL - _EPSILON
    ]
    longest = max(gaps, default=None)
    found = []
    for gap in gaps:
        length, ended, waited = gap
        measured = (drill.availability.longest_stall, waited) if gap is longest else (waited,)
        exact = next((value for value in measured if abs(value - length) <= BUCKET + _EPSILON), length)
        found.append(Stall(ended - exact, ended, exact))
    watched = max((phase.ended for phase in drill.phases), default=0.0)
    if watched - middles[-1] >= STALL + BUCKET:
        found.append(Stall(middles[-1], watched, watched - middles[-1], over=False))
    return found


def runs(buckets: Iterable[Bucket]) -> list[list[Bucket]]:
    """Return buckets cut where there is a stall, so that no line crosses it."""
    pieces: list[list[Bucket]] = []
    for bucket in buckets:
        if pieces and bucket.at - pieces[-1][-1].at - BUCKET < STALL - _EPSILON:
            pieces[-1].append(bucket)
        else:
            pieces.append([bucket])
    return pieces


def lanes(drill: DrillResult) -> dict[str, list[NodeSpan]]:
    """Return what each node said of itself, by node; spans of one state that touch are one."""
    nodes: dict[str, list[NodeSpan]] = {}
    for span in sorted(drill.nodes, key=lambda span: (span.node, span.began)):
        lane = nodes.setdefault(span.node, [])
        if lane and lane[-1].state == span.state and span.began - lane[-1].ended < BUCKET:
            lane[-1] = lane[-1].model_copy(update={"ended": max(span.ended, lane[-1].ended)})
        else:
            lane.append(span)
    return nodes


def marks(drill: DrillResult) -> list[tuple[float, str]]:
    """Return when the drill broke something and repaired it, in order of time."""
    return sorted(
        (event.at, event.kind) for event in drill.events if event.source == "drill" and event.kind in ("inject", "heal")
    )
