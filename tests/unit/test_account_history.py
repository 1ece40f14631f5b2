"""What is trimmed off the history of account states in Redis, whatever else is written meanwhile."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from trader_node import account_history
from trader_node.account_history import AccountHistory


class FakeRedis:
    """One list of states, to which others append while a trim waits."""

    states: list[int]
    come_in_meanwhile: int

    def __init__(self, **_: Any) -> None: ...

    async def ltrim(self, key: str, start: int, end: int) -> None:
        assert (key, end) == ("trader-TRADER-001:accounts:PAPER-001", -1)
        type(self).states = [*self.states, *range(len(self.states), len(self.states) + self.come_in_meanwhile)][start:]

    async def aclose(self) -> None: ...


def trimmed(monkeypatch: pytest.MonkeyPatch, held: int, kept: int, meanwhile: int, *, settled: bool) -> list[int]:
    """Trim a list of ``held`` states for a node that keeps the newest ``kept``; return what is left of it."""
    FakeRedis.states, FakeRedis.come_in_meanwhile = list(range(held)), meanwhile
    monkeypatch.setattr(account_history, "Redis", FakeRedis)
    account = SimpleNamespace(id="PAPER-001", event_count=kept)
    cache = SimpleNamespace(accounts=lambda: [account])
    node = SimpleNamespace(trader_id="TRADER-001", kernel=SimpleNamespace(cache=cache))
    asyncio.run(AccountHistory(node, {}, 2).trim(settled=settled))
    return FakeRedis.states


def test_states_that_come_in_while_a_trim_waits_push_out_none_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20 fills a second, for as long as a trim may wait.
    left = trimmed(monkeypatch, held=4000, kept=2400, meanwhile=200, settled=False)
    assert left[0] <= 4000 - 2400
    assert left[-1] == 4199


def test_the_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(trimmed(monkeypatch, held=100_000, kept=2400, meanwhile=0, settled=False)) == 3100


def test_what_is_settled_is_trimmed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trimmed(monkeypatch, held=4000, kept=2400, meanwhile=0, settled=True) == list(range(1600, 4000))
