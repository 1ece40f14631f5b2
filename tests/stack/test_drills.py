"""Every drill once: the stack is broken in each way under live trading, and nothing is lost, doubled or reordered."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from drills.faults import FAULTS
from drills.limits import read_limits
from drills.runner import Drill
from drills.stack import Stack
from tests.stacks import ROOT, Journal

LIMITS = read_limits(ROOT / "drills.toml", FAULTS)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.timeout(300)
def test_drill(stack: Stack, journal: Journal, tmp_path: Path, name: str) -> None:
    result = Drill(stack, FAULTS[name], LIMITS[name], random.SystemRandom(), print).run()
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
    (tmp_path / "result.json").write_text(result.model_dump_json(indent=1))
    assert result.status == "passed", "\n".join(
        [result.reason, *(f"{event.at:8.3f} {event.source}: {event.kind} {event.text}" for event in result.events)]
    )
