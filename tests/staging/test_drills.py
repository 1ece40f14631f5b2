"""Drills on the staging template: TLS, logins and a second trader change nothing about what survives."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.faults import FAULTS
from drills.stack import Stack
from tests.stacks import Journal, run_drill

QUICK = ("traders-isolated",)
LONG = tuple(name for name in FAULTS if name not in QUICK)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.timeout(300)
def test_drill(stack: Stack, journal: Journal, tmp_path: Path, name: str) -> None:
    assert len(stack.traders) == 2
    run_drill(stack, journal, tmp_path, name)


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
@pytest.mark.timeout(600)
def test_long_drill(stack: Stack, journal: Journal, tmp_path: Path, name: str) -> None:
    run_drill(stack, journal, tmp_path, name)
