"""The bench's report: tables, JSON there and back, the chart; what was not measured is never a figure."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from drills.bench.chart import draw
from drills.bench.report import markdown, number, table
from drills.bench.results import Loss, Results, Scenario
from drills.bench.samples import ROUTES, Cell, Latency, NoDataError, Route, Sample


def _results() -> Results:
    rates: dict[Route, float] = {"direct": 200.0, "haproxy": 100.0, "link": 90.0}
    results = Results(about={"Machine": "2 cores"}, idle_rss={"haproxy": 20_000_000, "link": 50_000_000})
    for operation, pipeline, connections in itertools.product(("SET", "batch"), (1, 16), (1, 20)):
        for route in ROUTES:
            proxied = route != "direct"
            sample = Sample(
                rate=rates[route],
                latency=Latency(1.0, 2.0, 3.0),
                proxy_cpu=4.0 if proxied else None,
                redis_cpu=5.0,
                generator_busy=0.95 if route == "direct" else 0.5,
                proxy_rss=60_000_000 if proxied else None,
                journal_bytes=10_000_000 if route == "link" else None,
            )
            results.cells[Cell(operation, pipeline, connections), route] = [sample, sample]
    for mode in ("never", "always"):
        results.fsync[mode] = results.cells[Cell("SET", 1, 20), "link"]
    for request, route in itertools.product(("batch", "GET"), ROUTES):
        results.own_path[request, route] = [Latency(0.1, 0.2, 0.3)]
    for fault, route in itertools.product(("kill", "partition"), ROUTES):
        lost = 0 if route == "link" else 12
        results.failovers[Scenario(fault, 1), route] = [
            Loss(1000, 0, 0, 0, 2.0, 1),
            Loss(1000, 2, lost, 0, 2.5, 2, {"closed": lost} if lost else {}),
            Loss(1000, 0, lost, 0, 3.0, 1),
        ]
    return results


def test_report_has_ratios_and_losses() -> None:
    text = markdown(_results(), "bench.png", "./scripts/bench")
    assert "![Chart](bench.png)" in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert ["SET", "1", "20", "200*", "100", "90", "0.90", "0.45", "0.50"] in rows
    assert ["kill, min-replicas 1, HAProxy", "12", "0 14 12", "2", "0", "3000", "1 2 1", "2.50"] in rows
    assert ["link", "50.0", "60.0", "10.0"] in rows
    assert "- HAProxy: 24 closed" in text
    assert "6 failovers" in text


def test_json_there_and_back() -> None:
    results = _results()
    assert Results.load(results.dump()) == results


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"about": {}, "cells": [{}]}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Results.load(text)


def _without_link_cell(results: Results) -> None:
    del results.cells[Cell("SET", 1, 20), "link"]


def _without_runs(results: Results) -> None:
    results.cells[Cell("SET", 1, 20), "haproxy"] = []


def _without_failover(results: Results) -> None:
    results.failovers[Scenario("kill", 1), "link"] = []


def _without_any_failover(results: Results) -> None:
    results.failovers.clear()


def _without_own_path(results: Results) -> None:
    results.own_path["GET", "link"] = []


@pytest.mark.parametrize(
    "spoil", [_without_link_cell, _without_runs, _without_failover, _without_any_failover, _without_own_path]
)
def test_what_was_not_measured_is_no_report_and_no_chart(spoil: Callable[[Results], None], tmp_path: Path) -> None:
    results = _results()
    spoil(results)
    with pytest.raises(NoDataError, match="no data"):
        markdown(results, "bench.png", "./scripts/bench")
    with pytest.raises(NoDataError, match="no data"):
        draw(results, tmp_path / "bench.png")


def test_report_without_memory_or_fsync_is_none() -> None:
    for clear in (lambda results: results.idle_rss.clear(), lambda results: results.fsync.clear()):
        results = _results()
        clear(results)
        with pytest.raises(NoDataError, match="no data"):
            markdown(results, "bench.png", "./scripts/bench")


def test_chart_is_a_picture(tmp_path: Path) -> None:
    draw(_results(), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_table_lines_up() -> None:
    assert table(["a", "b"], [["x", "1"], ["long", "22"]]).splitlines() == [
        "| a    |  b |",
        "|------|---:|",
        "| x    |  1 |",
        "| long | 22 |",
    ]


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (0.0042, "0.004"), (0.1234, "0.123"), (12.34, "12.3"), (123456.7, "123,457")]
)
def test_numbers_for_people(value: float, expected: str) -> None:
    assert number(value) == expected
