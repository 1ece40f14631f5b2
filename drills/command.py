"""``python -m drills``: lists the drills and runs them; ``./scripts/drill`` is the command for people."""

from __future__ import annotations

import difflib
import os
import platform
import random
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from redis.exceptions import RedisError
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import guard
from .faults import FAULTS
from .healing import heal_everything
from .interrupts import as_interrupt, uninterrupted
from .limits import Limits, LimitsError, read_limits
from .live import LiveView, line
from .report import write
from .report.overall import by_drill, seconds
from .results import DrillReport, DrillResult, Environment
from .runner import Drill
from .stack import DockerError, Stack, docker
from .unfinished import BusyError, Unfinished

ROOT = Path(__file__).resolve().parents[1]
ALL = "all"
_HEAL_SECONDS = 120.0

# Wide enough for the table; a line that a narrow terminal wraps can be read, a squeezed table cannot.
console = Console(highlight=False, width=max(140, Console().width))


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...|all]", help="which; none: list them")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="how often each")] = 1,
    seed: Annotated[int | None, typer.Option(help="draws the same order and choices again; default: random")] = None,
    report: Annotated[Path | None, typer.Option(help="folder of the report; default: reports/drill-<time>")] = None,
    limits: Annotated[Path, typer.Option(help="thresholds of the verdict")] = ROOT / "drills.toml",
    heal: Annotated[bool, typer.Option("--heal", help="only repair what an earlier run has left broken")] = False,
    stack: Annotated[str, typer.Option(help="break this running stack, though the drills did not start it")] = "",
    project: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Break a stack on purpose, under live trading, and prove what survived.

    The exit status is 0 if everything passed, 1 if something failed, 2 if nothing was touched because of a mistake.
    """
    if not names and not heal:
        _list()
        return
    try:
        kinds = _chosen(names or [])
        thresholds = read_limits(limits, FAULTS)
        target = Stack.discover(ROOT, stack or project)
        with Unfinished(ROOT / "build", target.project) as unfinished:
            good = _run(target, unfinished, kinds, thresholds, repeat, seed, report, stack, heal=heal)
    except (DockerError, LimitsError, BusyError, _MistakeError) as error:
        print(f"drill: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except TimeoutError as error:
        hint = "./scripts/drill --down removes a stack of the drills' own"
        print(f"drill: the stack could not be healed: {error}; {hint}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("drill: interrupted; what was broken is healed", file=sys.stderr)
        raise typer.Exit(130) from None
    raise typer.Exit(0 if good else 1)


class _MistakeError(ValueError):
    """The user's; the message says what to do."""


def _chosen(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in FAULTS and name != ALL]
    if unknown:
        close = difflib.get_close_matches(unknown[0].replace("_", "-").lower(), FAULTS, 1)
        hint = f", did you mean {close[0]}?" if close else ";"
        raise _MistakeError(f'there is no drill "{unknown[0]}"{hint} ./scripts/drill lists them')
    return list(FAULTS) if ALL in names else list(dict.fromkeys(names))


def _list() -> None:
    table = Table(box=box.SIMPLE, show_header=False)
    for name, fault in FAULTS.items():
        table.add_row(f"[bold]{name}[/]", fault.summary)
    console.print(table)
    console.print(
        "./scripts/drill NAME... | all [--repeat N] [--seed S] [--report DIR] [--stack PROJECT]; --help tells more"
    )


def _run(
    stack: Stack,
    unfinished: Unfinished,
    kinds: list[str],
    thresholds: dict[str, Limits],
    repeat: int,
    seed: int | None,
    folder: Path | None,
    named: str,
    *,
    heal: bool,
) -> bool:
    """Run the drills; return whether all passed."""
    if heal or unfinished.left:
        refused = guard.forbidden(guard.facts(stack, named))
        if refused:
            raise _MistakeError(refused)
        if unfinished.left:
            console.print(f"an earlier run ended during {unfinished.left}: healing what it broke")
        for undone in heal_everything(stack, _HEAL_SECONDS):
            console.print(f"    {escape(undone)}")
        unfinished.healed()
        console.print(f'"{stack.project}" is well')
    if not kinds:
        return True
    refused = guard.refuse(guard.facts(stack, named))
    if refused:
        raise _MistakeError(refused)
    seed = seed if seed is not None else random.SystemRandom().randrange(1 << 32)
    folder = folder or ROOT / "reports" / f"drill-{datetime.now():%Y%m%d-%H%M%S}"  # a name for people
    console.print(f'breaking "{stack.project}"; seed {seed}; the report will be in {folder}')
    signal.signal(signal.SIGTERM, as_interrupt)
    began = time.monotonic()
    results = DrillReport(seed=seed, started=_now(), environment=_environment(stack))
    try:
        _all(stack, unfinished, kinds, thresholds, repeat, random.Random(seed), results.drills)  # noqa: S311
    finally:
        results.duration = round(time.monotonic() - began, 1)
        write(results, folder)
        _summary(results, folder)
    return results.passed


def _all(
    stack: Stack,
    unfinished: Unfinished,
    kinds: list[str],
    thresholds: dict[str, Limits],
    repeat: int,
    chance: random.Random,
    results: list[DrillResult],
) -> None:
    with LiveView(console, len(kinds) * repeat) as view:
        for repetition in range(1, repeat + 1):
            order = list(kinds)
            chance.shuffle(order)
            for name in order:
                drill = Drill(stack, FAULTS[name], thresholds[name], random.Random(chance.random()), view.phase)  # noqa: S311
                view.begin(drill, name)
                unfinished.begin(name)
                try:
                    result = drill.run(repetition)
                except KeyboardInterrupt:
                    view.phase("interrupted: healing")
                    with uninterrupted(view.phase):
                        heal_everything(stack, _HEAL_SECONDS)
                        unfinished.healed()
                    results.append(drill.interrupted(repetition))
                    raise
                results.append(result)
                view.ended(result)
                if result.status == "failed":
                    # The next one needs a stack that is well.
                    with uninterrupted(view.phase):
                        heal_everything(stack, _HEAL_SECONDS)
                unfinished.healed()


def _summary(results: DrillReport, folder: Path) -> None:
    table = Table(box=box.SIMPLE)
    columns = ("passed", "stall, s", "first write, s", "redundancy, s", "appends", "replayed", "orders", "lost", "dup.")
    table.add_column("drill")
    for title in columns:
        table.add_column(title, justify="right")
    for drill in by_drill(results):
        if not drill.runs:
            table.add_row(drill.name, f"[yellow]skipped[/] {escape(drill.skipped[:40])}")
            continue
        table.add_row(
            drill.name,
            f"[{'green' if drill.passed == drill.runs else 'bold red'}]{drill.passed} of {drill.runs}[/]",
            seconds(drill.longest_stall, 2),
            seconds(drill.first_write, 2),
            seconds(drill.redundancy, 1),
            f"{drill.appends:,}",
            f"{drill.replayed:,}",
            f"{drill.orders:,}",
            str(drill.lost),
            str(drill.duplicated),
        )
    console.print(table)
    for result in results.drills:
        if result.status == "failed":
            console.print(line(result), soft_wrap=True)
    console.print(f"report: {folder / 'drills.html'}", soft_wrap=True)


def _environment(stack: Stack) -> Environment:
    try:
        version = str(stack.client(stack.master()).info("server")["redis_version"])
    except (RedisError, OSError, RuntimeError):
        version = "unknown"
    return Environment(
        project=stack.project,
        redis_version=version,
        docker_version=docker("version", "--format", "{{.Server.Version}}").strip(),
        kernel=platform.release(),
        cpus=os.cpu_count() or 0,
        trader_id=stack.trader_id,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def run() -> None:
    """Run the command line."""
    typer.run(main)


if __name__ == "__main__":
    run()
