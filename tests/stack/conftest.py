"""The stack of these tests: real images, real containers, under a project name of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from drills.stack import Stack
from tests.stacks import ROOT, Journal, in_use

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
    yield from in_use(running_stack, request)


_journal = Journal()


@pytest.fixture(scope="session")
def journal() -> Journal:
    return _journal


def pytest_terminal_summary(terminalreporter: Any) -> None:
    _journal.summarize(terminalreporter)
