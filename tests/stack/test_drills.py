"""The drills: the stack is broken in each way under live trading, and nothing is lost, doubled or reordered."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.faults import FAULTS
from drills.stack import Stack
from tests.stacks import Journal, run_drill

#: What differs most from each other; half a minute each on an idle machine. ./scripts/test --long runs all of them.
QUICK = (
    "kill-master",
    "freeze-master",
    "partition-master",
    "lagging-replica",
    "lost-disk",
    "memory-limit",
    "trader-killed-in-outage",
    "stack-killed",
)
#: The others have their turn on the staging template; ``restore`` starts no stack with an overlay that is not ours.
PLAIN = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.long])
    for name, fault in FAULTS.items()
    if not fault.needs_logins and name != "restore"
]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.timeout(300)
def test_drill(stack: Stack, journal: Journal, tmp_path: Path, name: str) -> None:
    run_drill(stack, journal, tmp_path, name)
