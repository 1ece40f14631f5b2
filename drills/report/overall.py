"""What all runs of one drill come to: the worst time and the sums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from drills.results import DrillReport, DrillResult


@dataclass(frozen=True, slots=True)
class Overall:
    """One drill; times in seconds, the worst of all its runs, ``None`` if none of them has one."""

    name: str
    #: Runs that were not skipped; 0: all were, for ``skipped``.
    runs: int
    skipped: str
    passed: int
    longest_stall: float | None
    first_write: float | None
    #: Of the runs after which another node was the master.
    promotion: float | None
    redundancy: float | None
    appends: int
    orders: int
    replayed: int
    lost: int
    duplicated: int


def by_drill(report: DrillReport) -> list[Overall]:
    """Return one for each drill, in the order of their first runs."""
    grouped: dict[str, list[DrillResult]] = {}
    for result in report.drills:
        grouped.setdefault(result.name, []).append(result)
    return [_overall(name, runs) for name, runs in grouped.items()]


def _overall(name: str, runs: list[DrillResult]) -> Overall:
    ran = [run for run in runs if run.status != "skipped"]
    return Overall(
        name=name,
        runs=len(ran),
        skipped="" if ran else runs[0].reason,
        passed=sum(run.status == "passed" for run in ran),
        longest_stall=_worst(run.availability.longest_stall for run in ran),
        first_write=_worst(run.availability.first_write for run in ran),
        promotion=_worst(run.availability.promotion for run in ran if _moved(run)),
        redundancy=_worst(run.availability.redundancy for run in ran),
        appends=sum(run.appender.acknowledged for run in ran),
        orders=sum(run.trader.orders for run in ran),
        replayed=sum(run.appender.replayed + run.trader.replayed for run in ran),
        lost=sum(run.appender.lost + run.trader.lost for run in ran),
        duplicated=sum(run.appender.duplicated + run.trader.duplicated for run in ran),
    )


def _moved(run: DrillResult) -> bool:
    return any(check.name == "another node is master" for check in run.checks)


def _worst(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def seconds(value: float | None, digits: int) -> str:
    """Return a time as text; nothing if there is none."""
    return "" if value is None else f"{value:.{digits}f}"
