"""What the suites that start stacks share: scripts run as a user would, logs after a failure, notes at the end."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from drills.faults import FAULTS
from drills.limits import read_limits
from drills.runner import Drill
from drills.stack import Stack, containers_of, docker_logs

ROOT = Path(__file__).resolve().parents[1]
_LIMITS = read_limits(ROOT / "drills.toml", FAULTS)


class Journal:
    """What a suite prints at its end: one line per failover."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.lines.append(line)
        print(line)

    def summarize(self, reporter: Any) -> None:
        """Print all lines by pytest's reporter."""
        if self.lines:
            reporter.section("failovers")
            for line in self.lines:
                reporter.write_line(line)


def run_script(
    environment: Mapping[str, str], name: str, *arguments: str, seconds: float = 300.0, expect: int = 0
) -> str:
    """Run one of our scripts as a user would and return all that it printed.

    Raises
    ------
    AssertionError
        If it ends with another status than the expected one.

    """
    done = _run(environment, name, arguments, seconds, subprocess.STDOUT)
    print(done.stdout)
    assert done.returncode == expect, f"./scripts/{name} {' '.join(arguments)}:\n{done.stdout[-6000:]}"
    return done.stdout


def refusal(environment: Mapping[str, str], name: str, *arguments: str, seconds: float = 120.0) -> str:
    """Run one of our scripts that has to refuse, and return its errors, with warnings about the host before."""
    done = _run(environment, name, arguments, seconds, subprocess.PIPE)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "\nerror: " in f"\n{done.stderr}", done.stderr
    return done.stderr


def _run(
    environment: Mapping[str, str], name: str, arguments: Sequence[str], seconds: float, errors: int
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "scripts" / name), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        timeout=seconds,
        env=dict(environment),
        check=False,
    )


def print_logs(project: str, lines: int = 40) -> None:
    """Print the last lines that every container of a project logged."""
    for service, container in sorted(containers_of(project).items()):
        print(f"--- {service}\n{docker_logs(container['Id'], lines)}")


def in_use(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Yield a stack that is whole and trades; heal it after the test, and print all logs if the test failed."""
    stack.heal()
    stack.wait_for_writes()
    failed_before = request.session.testsfailed
    yield stack
    if request.session.testsfailed > failed_before:
        print_logs(stack.project)
    stack.heal()


def run_drill(stack: Stack, journal: Journal, folder: Path, name: str) -> None:
    """Run a drill and check that it passed; one that this stack or machine cannot have is skipped with its reason."""
    result = Drill(stack, FAULTS[name], _LIMITS[name], random.SystemRandom(), print).run()
    if result.status == "skipped":
        # Said by name where this machine cannot do it; the drill itself decides that by trying.
        journal.add(f"{name}: skipped, {result.reason}")
        pytest.skip(result.reason)
    times = result.availability
    journal.add(
        f"{name}: {result.effect}; longest stall {times.longest_stall:.2f} s; {result.appender.acknowledged} appends, "
        f"{result.trader.positions} positions, {result.trader.orders} orders compared, "
        f"lost {result.appender.lost + result.trader.lost}"
    )
    (folder / "result.json").write_text(result.model_dump_json(indent=1))
    assert result.status == "passed", "\n".join(
        [result.reason, *(f"{event.at:8.3f} {event.source}: {event.kind} {event.text}" for event in result.events)]
    )
