"""A histogram that costs one bisection per transaction, whatever the number of entries in it."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

#: Upper bounds in seconds, ``le`` of Prometheus; everything above falls into +Inf.
BOUNDS = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)


class Latency:
    """Durations, counted by bucket."""

    __slots__ = ("_counts", "seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        #: Sum of all durations.
        self.seconds = 0.0

    def observe(self, seconds: float, count: int = 1) -> None:
        """Add ``count`` durations of ``seconds`` each."""
        self._counts[bisect_left(BOUNDS, seconds)] += count
        self.seconds += seconds * count

    def cumulated(self) -> list[tuple[str, float]]:
        """Return the buckets as Prometheus wants them: how many durations were at most each bound."""
        names = [*(str(bound) for bound in BOUNDS), "+Inf"]
        return list(zip(names, accumulate(float(count) for count in self._counts), strict=True))
