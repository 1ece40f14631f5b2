"""All that one run of the bench has measured, to and from JSON, and the questions that table and chart ask of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from .samples import Cell, Latency, NoDataError, Route, Sample, median, median_latency, median_sample, ratio


@dataclass(frozen=True, slots=True)
class Loss:
    """What became of one writer's positions in one failover."""

    #: Positions handed over from before the fault until all was well again.
    handed_over: int
    #: Missing afterwards though their batch was acknowledged.
    lost_acknowledged: int
    #: Missing afterwards because their batch met an error and was dropped.
    lost_dropped: int
    #: There more than once.
    duplicated: int
    #: From the fault to the first write that the new master holds, in seconds.
    recovery: float
    #: How many times the Sentinels replaced the master: soon after the first time they may do so again.
    elections: int
    #: Positions in batches that were dropped, by the error that the batch met; some of them may have been applied.
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """All that is missing."""
        return self.lost_acknowledged + self.lost_dropped


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happened to the master, and how many replicas a master needs to take writes."""

    fault: str
    min_replicas: int


@dataclass(slots=True)
class Results:
    """Everything measured; each figure is a list with one value per run."""

    #: About the machine and the run, for people.
    about: dict[str, str] = field(default_factory=dict)
    cells: dict[tuple[Cell, Route], list[Sample]] = field(default_factory=dict)
    fsync: dict[str, list[Sample]] = field(default_factory=dict)
    own_path: dict[tuple[str, Route], list[Latency]] = field(default_factory=dict)
    #: Resident memory of the proxies after their start, in bytes.
    idle_rss: dict[Route, int] = field(default_factory=dict)
    failovers: dict[tuple[Scenario, Route], list[Loss]] = field(default_factory=dict)

    # --- questions ---------------------------------------------------------------------------------------------------

    def cell(self, cell: Cell, route: Route) -> Sample:
        """Return the medians of a cell. Raises ``NoDataError`` if it was not measured."""
        of = f"{cell}, {route}"
        return median_sample(self.cells.get((cell, route), []), of)

    def rate_ratio(self, cell: Cell, route: Route, base: Route) -> float:
        """Return how many times the rate of ``base`` a route has. Raises ``NoDataError`` if one was not measured."""
        return ratio(self.cell(cell, route).rate, self.cell(cell, base).rate, f"{cell}, {base}")

    def fsync_mode(self, mode: str) -> Sample:
        """Return the medians of a policy of the journal. Raises ``NoDataError`` if it was not measured."""
        return median_sample(self.fsync.get(mode, []), f"fsync {mode}")

    def path(self, request: str, route: Route) -> Latency:
        """Return the median percentiles of a request, one in flight. Raises ``NoDataError`` if it was not measured."""
        return median_latency(self.own_path.get((request, route), []), f"{request}, {route}")

    def losses(self, scenario: Scenario, route: Route) -> list[Loss]:
        """Return the losses of each failover. Raises ``NoDataError`` if there was none."""
        losses = self.failovers.get((scenario, route), [])
        if not losses:
            raise NoDataError(f"no data: {scenario.fault}, {route}: no failover")
        return losses

    def lost_per_failover(self, scenario: Scenario, route: Route) -> float:
        """Return the median of positions lost. Raises ``NoDataError`` if there was no failover."""
        return median((loss.lost for loss in self.losses(scenario, route)), scenario.fault)

    def recovery(self, scenario: Scenario, route: Route) -> float:
        """Return the median time to the first write, in seconds. Raises ``NoDataError`` if there was no failover."""
        return median((loss.recovery for loss in self.losses(scenario, route)), scenario.fault)

    def reasons(self, route: Route) -> Counter[str]:
        """Return the positions of dropped batches by the error that they met, over all failovers."""
        reasons: Counter[str] = Counter()
        for (_, of), losses in self.failovers.items():
            if of == route:
                for loss in losses:
                    reasons.update(loss.dropped)
        return reasons

    def scenarios(self) -> list[Scenario]:
        """Return the scenarios in the order in which they were played."""
        return list(dict.fromkeys(scenario for scenario, _ in self.failovers))

    # --- JSON --------------------------------------------------------------------------------------------------------

    def dump(self) -> str:
        """Return all of it as JSON."""
        document = {
            "about": self.about,
            "cells": [
                {**asdict(cell), "route": route, "runs": [asdict(sample) for sample in samples]}
                for (cell, route), samples in self.cells.items()
            ],
            "fsync": {mode: [asdict(sample) for sample in samples] for mode, samples in self.fsync.items()},
            "own_path": [
                {"request": request, "route": route, "runs": [asdict(latency) for latency in latencies]}
                for (request, route), latencies in self.own_path.items()
            ],
            "idle_rss": self.idle_rss,
            "failovers": [
                {**asdict(scenario), "route": route, "runs": [asdict(loss) for loss in losses]}
                for (scenario, route), losses in self.failovers.items()
            ],
        }
        return json.dumps(_rounded(document), indent=1) + "\n"

    @classmethod
    def load(cls, text: str) -> Results:
        """Return what ``dump`` has written. Raises ``KeyError``, ``TypeError`` or ``ValueError`` if it is no such."""
        document = json.loads(text)
        return cls(
            about=document["about"],
            cells={
                (Cell(each["operation"], each["pipeline"], each["connections"]), each["route"]): [
                    _sample(run) for run in each["runs"]
                ]
                for each in document["cells"]
            },
            fsync={mode: [_sample(run) for run in runs] for mode, runs in document["fsync"].items()},
            own_path={
                (each["request"], each["route"]): [Latency(**run) for run in each["runs"]]
                for each in document["own_path"]
            },
            idle_rss=document["idle_rss"],
            failovers={
                (Scenario(each["fault"], each["min_replicas"]), each["route"]): [Loss(**run) for run in each["runs"]]
                for each in document["failovers"]
            },
        )


def _sample(fields: dict[str, Any]) -> Sample:
    return Sample(**{**fields, "latency": Latency(**fields["latency"])})


def _rounded(value: Any) -> Any:
    """Return the document with floats cut to what was measured, not to what a float can hold."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value
