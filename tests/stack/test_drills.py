"""Every drill once: the stack is broken in each way under live trading, and nothing is lost, doubled or reordered."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.faults import FAULTS
from drills.stack import Stack
from tests.stacks import Journal, run_drill

#: Half a minute and more each, on an idle machine; ./scripts/test --long runs them as well.
LONG = {"clock-jump", "lossy-network", "restore", "rolling-upgrade", "sentinels-return-late", "two-sentinels-gone"}
#: The others have their turn on the staging template.
PLAIN = [
    pytest.param(name, marks=[pytest.mark.long] if name in LONG else [])
    for name, fault in FAULTS.items()
    if not fault.needs_logins
]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.timeout(300)
def test_drill(stack: Stack, journal: Journal, tmp_path: Path, name: str) -> None:
    run_drill(stack, journal, tmp_path, name)
