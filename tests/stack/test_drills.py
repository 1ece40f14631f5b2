"""Every drill once: the stack is broken in each way under live trading, and nothing is lost, doubled or reordered."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.faults import FAULTS
from drills.stack import Stack
from tests.stacks import Journal, run_drill

#: The others have their turn on the staging template.
PLAIN = [name for name, fault in FAULTS.items() if not fault.needs_logins]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.timeout(300)
def test_drill(stack: Stack, journal: Journal, tmp_path: Path, name: str) -> None:
    run_drill(stack, journal, tmp_path, name)
