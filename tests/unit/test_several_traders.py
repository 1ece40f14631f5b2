"""Several traders in a drill: every one counts, and drills that need them say what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills import runner
from drills.faults import FAULTS
from drills.results import TraderCounts
from drills.stack import Stack
from drills.traffic import DRILL_USER, Traffic, appender_lacks

ROOT = Path(__file__).resolve().parents[2]
BASE, STAGING, SECOND = "compose/base.yaml", "compose/staging.yaml", "compose/second-trader.yaml"
NEED_LOGINS = [name for name, fault in FAULTS.items() if fault.needs_logins]


def test_what_any_trader_lost_is_lost() -> None:
    first = TraderCounts(positions=3, orders=4, fills=5, accounts=1)
    second = TraderCounts(positions=1, orders=1, lost=2, wrong=1)
    total = runner._sum([first, second])
    assert (total.positions, total.orders, total.fills, total.accounts) == (4, 5, 5, 1)
    assert (total.lost, total.wrong) == (2, 1)


@pytest.mark.parametrize("name", NEED_LOGINS)
def test_a_drill_that_needs_logins_says_so(name: str) -> None:
    assert "--staging" in FAULTS[name].unavailable(Stack(ROOT, (BASE, SECOND)))
    assert FAULTS[name].unavailable(Stack(ROOT, (BASE, STAGING, SECOND))) == ""


def test_traders_are_kept_apart_only_where_there_are_two() -> None:
    assert "no second trader" in FAULTS["traders-isolated"].unavailable(Stack(ROOT, (BASE, STAGING)))


def test_the_appender_is_a_trader_of_its_own_where_there_are_logins(tmp_path: Path) -> None:
    plain, secured = Stack(ROOT), Stack(ROOT, (BASE, STAGING), {"SECRETS_DIR": str(tmp_path)})
    assert Traffic(plain).link_id != Traffic(plain).link_id
    assert Traffic(secured).link_id == DRILL_USER
    assert appender_lacks(plain) == ""
    said = appender_lacks(secured)
    assert f"TRADERS={DRILL_USER} ./scripts/secrets" in said
    assert "\n" not in said
