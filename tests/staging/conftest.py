"""The staging template as a team would start it: secrets, certificates, two traders and observability, in one stack.

Everything is made by the scripts, in a temporary folder, and one stack serves all tests of a session.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drills.stack import Stack
from drills.traffic import DRILL_USER
from tests.stacks import ROOT, Journal, in_use, print_logs, run_script

PROJECT = os.environ.get("COMPOSE_PROJECT_NAME", "nautilus-redis-ha-test-staging")
OVERLAYS = ("staging", "second-trader", "observability")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of the stack under test."""
    return {
        # Beside the pages of a stack of the user's.
        "PROMETHEUS_PORT": "19096",
        "ALERTMANAGER_PORT": "19097",
        **os.environ,
        "COMPOSE_PROJECT_NAME": PROJECT,
        "SUBNET_PREFIX": os.environ.get("SUBNET_PREFIX", "172.28.82"),
        "SECRETS_DIR": str(tmp_path_factory.mktemp("secrets")),
        # The drills' own traffic is one more trader.
        "TRADERS": DRILL_USER,
        # What is compared after a drill grows with every order that is kept; a journal is filled in one.
        "TRADER_KEEP_CLOSED_MINUTES": "2",
        "LINK_JOURNAL_MAX_BYTES": str(32 << 20),
    }


@pytest.fixture(scope="session")
def running_stack(environment: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack as the scripts leave it."""
    run_script(environment, "down", "--volumes", "--yes")
    try:
        for name in ("secrets", "certs"):
            run_script(environment, name)
        try:
            run_script(environment, "up", *(f"--{overlay}" for overlay in OVERLAYS))
        except AssertionError:
            print_logs(PROJECT)
            raise
        yield Stack.discover(ROOT, PROJECT)
    finally:
        if request.session.testsfailed:
            print_logs(PROJECT)
        run_script(environment, "down", "--volumes", "--yes")


@pytest.fixture
def stack(running_stack: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack, whole and trading before the test, and healed after it."""
    yield from in_use(running_stack, request)


@pytest.fixture(scope="session")
def secrets_dir(running_stack: Stack) -> Path:
    """The folder that ./scripts/secrets and ./scripts/certs filled."""
    assert running_stack.secrets is not None
    return running_stack.secrets.folder


_journal = Journal()


@pytest.fixture(scope="session")
def journal() -> Journal:
    return _journal


def pytest_terminal_summary(terminalreporter: Any) -> None:
    _journal.summarize(terminalreporter)
