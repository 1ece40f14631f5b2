"""What a whole run comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drills.results import DrillReport, DrillResult

from .palette import SIGNS


@dataclass(frozen=True, slots=True)
class Row:
    """All repetitions of one drill."""

    name: str
    runs: Sequence[DrillResult]

    @property
    def done(self) -> list[DrillResult]:
        """Those that were not skipped."""
        return [run for run in self.runs if run.status != "skipped"]

    @property
    def status(self) -> str:
        """The worst verdict."""
        states = {run.status for run in self.runs}
        return next(state for state in ("failed", "passed", "skipped") if state in states)

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        good = sum(run.status == "passed" for run in self.runs)
        of = f" {good} of {len(self.done)}" if len(self.done) > 1 else ""
        return f"{SIGNS[self.status]} {'passed' if self.status == 'failed' and of else self.status}{of}"

    @property
    def repeated(self) -> bool:
        """Whether it was run more than once."""
        return len(self.runs) > 1

    def total(self, number: Callable[[DrillResult], int]) -> int:
        """Return the sum over all repetitions."""
        return sum(number(run) for run in self.runs)


def rows(report: DrillReport) -> list[Row]:
    """Return the drills in the order in which each was run first."""
    names = dict.fromkeys(drill.name for drill in report.drills)
    return [Row(name, [drill for drill in report.drills if drill.name == name]) for name in names]


def headline(report: DrillReport) -> str:
    """Return the verdict on a whole run."""
    failed = sum(drill.status == "failed" for drill in report.drills)
    done = sum(drill.status != "skipped" for drill in report.drills)
    what = "runs" if any(row.repeated for row in rows(report)) else "drills"
    if not done:
        return "No drill was run"
    if done == 1:
        return "The drill failed" if failed else "The drill passed"
    if failed:
        return f"All {done} {what} failed" if failed == done else f"{failed} of {done} {what} failed"
    return f"All {done} {what} passed"
