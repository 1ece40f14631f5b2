"""``python -m drills.bench``: measure direct, HAProxy and the link side by side, and write table and chart."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from . import failovers, own_path, throughput
from .chart import draw
from .report import markdown
from .results import Results, Scenario
from .samples import ROUTES

#: What one run of a cell takes, in seconds; requests per kind and route of a node's own; failovers per fault.
_FULL = (0.5, 100, 2)
_QUICK = (0.25, 40, 1)
_CHART = "bench.png"


def main(
    report: Annotated[Path, typer.Option(help="folder for bench.md, bench.json and bench.png")],
    runs: Annotated[int, typer.Option(min=1, help="interleaved runs; figures are their medians")] = 5,
    quick: Annotated[bool, typer.Option(help="one short run, for a look and not for figures")] = False,
    command: Annotated[str, typer.Option(help="how the user called this, for the report")] = "./scripts/bench",
    redraw: Annotated[bool, typer.Option(help="measure nothing: table and chart from bench.json")] = False,
) -> None:
    """Measure and report."""
    data = report / "bench.json"
    if redraw:
        try:
            results = Results.load(data.read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            sys.stderr.write(f"bench: --redraw needs a {data} that this command has written: {error!r}\n")
            raise typer.Exit(2) from None
    else:
        results = measure(runs=1 if quick else runs, quick=quick)
        data.write_text(results.dump())
    text = markdown(results, _CHART, command)
    (report / "bench.md").write_text(text)
    draw(results, report / _CHART)
    for name in ("bench.json", "bench.md", _CHART):
        # Root's in the container; on the host they are for whoever made the folder.
        os.chown(report / name, report.stat().st_uid, report.stat().st_gid)
    sys.stdout.write(text)


def measure(*, runs: int, quick: bool) -> Results:
    """Measure everything. Raises when something could not be measured."""
    seconds, requests, trials = _QUICK if quick else _FULL
    results = Results(about=_about(runs, seconds, trials))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _measure_cost(results, Path(folder), runs, seconds, requests)
        _measure_failovers(results, Path(folder), trials, quick=quick)
    _tell(f"done in {time.monotonic() - began:.0f} s")
    return results


def _measure_cost(results: Results, folder: Path, runs: int, seconds: float, requests: int) -> None:
    bench = throughput.Bench(folder / "cost")
    try:
        bench.start()
        bench.fill()
        bench.fresh_link()
        for route in ROUTES:
            if (rss := bench.idle_rss(route)) is not None:
                results.idle_rss[route] = rss
        _tell("one node's own requests")
        results.own_path = own_path.measure(bench.port, runs, requests, throughput.in_turn)
        results.cells = throughput.grid(bench, runs, seconds, _tell)
        results.fsync = throughput.fsync_modes(bench, runs, seconds, _tell)
    finally:
        bench.stop()


def _measure_failovers(results: Results, folder: Path, trials: int, *, quick: bool) -> None:
    # The stack's own setting, and Redis' default.
    for min_replicas in (1,) if quick else (1, 0):
        stage = failovers.Stage(folder / f"failovers-{min_replicas}", min_replicas=min_replicas)
        try:
            stage.start()
            for trial in range(trials):
                for fault in failovers.FAULTS:
                    _tell(f"failover {trial + 1} of {trials}: {fault}, min-replicas {min_replicas}")
                    for route, loss in stage.fail_over(fault).items():
                        results.failovers.setdefault((Scenario(fault, min_replicas), route), []).append(loss)
        finally:
            stage.stop()


def _about(runs: int, seconds: float, trials: int) -> dict[str, str]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "When": datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d"),
        "Machine": f"{os.cpu_count()} cores, {cpu.partition(':')[2].strip() or platform.machine()}, "
        f"load {os.getloadavg()[0]:.1f} at the start",
        "Software": f"{_first_line('redis-server', '--version')}, {_first_line('haproxy', '-v')}, "
        f"Python {platform.python_version()}",
        "Figures": f"medians of {runs} interleaved runs of {seconds:g} s, and of {trials} failovers per fault",
        "Mind": "load generator, proxy, master, two replicas and three Sentinels share those cores",
    }


def _first_line(*command: str) -> str:
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return " ".join(line.split()[:3])


def _tell(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    typer.run(main)
