"""Measured samples and what is made of them: medians of runs, ratios between routes. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

#: How a client reaches the master.
Route = Literal["direct", "haproxy", "link"]
ROUTES: tuple[Route, ...] = ("direct", "haproxy", "link")


class NoDataError(RuntimeError):
    """Something was to be measured and there is nothing: never a result, least of all a good one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid: what is asked, how many requests are in flight per connection, how many connections."""

    operation: str
    pipeline: int
    connections: int

    def __str__(self) -> str:
        """Return the cell, for people."""
        return f"{self.operation}, pipeline {self.pipeline}, {self.connections} connections"


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the time from request to reply, in milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one cell on one route."""

    #: Requests per second; of batches: batches per second.
    rate: float
    latency: Latency
    #: CPU time of the proxy's process per request, user and system, in microseconds; None where there is no proxy.
    proxy_cpu: float | None
    #: CPU time of the master's process per request, in microseconds.
    redis_cpu: float
    #: CPU time of the load generator as a share of the time that the run took; close to 1: it was the bottleneck.
    generator_busy: float
    #: Resident memory of the proxy after the run, in bytes.
    proxy_rss: int | None
    #: Bytes in the link's journal after the run; they are part of its resident memory.
    journal_bytes: int | None = None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile; ``share`` between 0 and 1. Raises ``NoDataError`` without values."""
    if not values:
        raise NoDataError("no data: percentile of nothing")
    ordered = sorted(values)
    # Rounded first: 0.07 * 100 is a little more than 7 in binary.
    rank = math.ceil(round(share * len(ordered), 9))
    return ordered[max(rank, 1) - 1]


def latency(seconds: Sequence[float]) -> Latency:
    """Return the percentiles of times in seconds. Raises ``NoDataError`` without values."""
    return Latency(*(percentile(seconds, share) * 1000 for share in (0.5, 0.95, 0.99)))


def median(values: Iterable[float], of: str) -> float:
    """Return the median. Raises ``NoDataError`` naming ``of`` without values."""
    present = list(values)
    if not present:
        raise NoDataError(f"no data: {of}")
    return statistics.median(present)


def ratio(value: float, base: float, of: str) -> float:
    """Return ``value`` over ``base``. Raises ``NoDataError`` naming ``of`` where the base is nothing."""
    if base <= 0:
        raise NoDataError(f"no data: {of} has nothing to be compared with")
    return value / base


def median_sample(samples: Sequence[Sample], of: str) -> Sample:
    """Return the medians of each figure over the runs. Raises ``NoDataError`` naming ``of`` without samples."""

    def optional(values: list[float | None]) -> float | None:
        present = [value for value in values if value is not None]
        return median(present, of) if present else None

    rss = optional([each.proxy_rss for each in samples])
    journal = optional([each.journal_bytes for each in samples])
    return Sample(
        rate=median((each.rate for each in samples), of),
        latency=median_latency([each.latency for each in samples], of),
        proxy_cpu=optional([each.proxy_cpu for each in samples]),
        redis_cpu=median((each.redis_cpu for each in samples), of),
        generator_busy=median((each.generator_busy for each in samples), of),
        proxy_rss=None if rss is None else int(rss),
        journal_bytes=None if journal is None else int(journal),
    )


def median_latency(latencies: Sequence[Latency], of: str) -> Latency:
    """Return the medians of each percentile over the runs. Raises ``NoDataError`` naming ``of`` without latencies."""
    return Latency(
        p50=median((each.p50 for each in latencies), of),
        p95=median((each.p95 for each in latencies), of),
        p99=median((each.p99 for each in latencies), of),
    )
