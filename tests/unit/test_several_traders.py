"""Several traders in a drill: every one counts, and drills that need them say what is missing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from redis.exceptions import NoPermissionError

from drills import runner
from drills.faults import FAULTS
from drills.faults.traders import TradersIsolated
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


class Lenient:
    """A Redis that lets a trader do what it must not: the commands in ``allows``, past its link or through it."""

    def __init__(self, allows: str = "", *, through_link: bool = False, keeps: bool = True) -> None:
        self.allows, self.through_link, self.keeps = allows, through_link, keeps
        self.keys = 100
        self.master_name = "redis-1"
        self.traders = [SimpleNamespace(id=f"T-{n}", service=f"trader-{n}", prefix=f"trader-T-{n}:") for n in (1, 2)]

    def master(self) -> str:
        return self.master_name

    def client(self, _node: str, _timeout: float = 1.0) -> Lenient:
        return self

    def client_as(self, _node: str, user: str, certificate: str) -> Lenient:
        assert (user, certificate) == ("T-2", "trader-2")
        return self

    def dbsize(self) -> int:
        self.keys, now = self.keys if self.keeps else 0, self.keys
        return now

    def execute_command(self, *command: str) -> str:
        if " ".join(command) == self.allows:
            return "OK"
        raise NoPermissionError("no permissions")

    def execute(self, _service: str, *_: str) -> str:
        said = "NoPermissionError this user has no permissions to run the 'flushdb' command"
        return "True" if self.through_link else said


def _wipe(stack: Lenient) -> str:
    fault = TradersIsolated(stack)  # type: ignore[arg-type]
    fault._wild = stack.traders[1]  # type: ignore[assignment]
    return fault._try_to_wipe()


def test_a_trader_that_may_not_wipe_is_said_to_be_refused() -> None:
    assert "FLUSHALL" in _wipe(Lenient())


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        (Lenient("FLUSHDB"), "T-2 may FLUSHDB: OK"),
        (Lenient("SWAPDB 0 1"), "T-2 may SWAPDB 0 1: OK"),
        (Lenient(through_link=True), "may FLUSHDB through its link"),
        (Lenient(keeps=False), "of 100 keys 0 are left"),
    ],
)
def test_a_trader_that_can_wipe_fails_the_drill(stack: Lenient, said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        _wipe(stack)
