"""The stack of these tests: real images, real containers, under a project name of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drills.stack import SERVICES, Stack

ROOT = Path(__file__).resolve().parents[2]
#: Files of the stack under test; the second one makes name lookups slow and useless.
FILES = ("compose/base.yaml", "tests/stack/overlay.yaml")


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    return f"docker compose --project-directory {ROOT}"


@pytest.fixture(scope="session")
def docker_compose_file() -> list[str]:
    return [str(ROOT / name) for name in FILES]


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return Stack(ROOT).project


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    # From nothing: what an interrupted run left behind would be another test's data.
    return ["down --volumes --remove-orphans", "up --detach --wait --wait-timeout 180 --no-build"]


@pytest.fixture(scope="session")
def running_stack(docker_services: Any) -> Stack:
    return Stack(ROOT, FILES)


@pytest.fixture
def stack(running_stack: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack, whole and trading before the test, and healed after it."""
    running_stack.heal()
    running_stack.wait_for_writes()
    failed_before = request.session.testsfailed
    yield running_stack
    if request.session.testsfailed > failed_before:
        for service in SERVICES:
            print(f"--- {service}\n{running_stack.logs(service)}")
    running_stack.heal()


class Journal:
    """What the suite prints at its end: one line per failover."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.lines.append(line)
        print(line)


_journal = Journal()


@pytest.fixture(scope="session")
def journal() -> Journal:
    return _journal


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _journal.lines:
        terminalreporter.section("failovers")
        for line in _journal.lines:
            terminalreporter.write_line(line)
