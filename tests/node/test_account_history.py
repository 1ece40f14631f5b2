"""The history of account states is cut in Redis by no more than what the node has forgotten."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from trader_node import account_history
from trader_node.account_history import AccountHistory

KEY = "trader-T-1:accounts:A-1"


class Store:
    """A list in Redis, and a node that writes to it while a command is on its way."""

    def __init__(self, in_redis: list[int], in_memory: list[int]) -> None:
        self.in_redis, self.in_memory = in_redis, in_memory
        self.next = in_redis[-1] + 1
        type_ = type("Account", (), {"event_count": property(lambda _: len(self.in_memory)), "id": "A-1"})
        account = type_()
        self.node = SimpleNamespace(
            trader_id="T-1", kernel=SimpleNamespace(cache=SimpleNamespace(accounts=lambda: [account]))
        )

    def fill(self) -> None:
        for states in (self.in_redis, self.in_memory):
            states.append(self.next)
        self.next += 1

    async def llen(self, key: str) -> int:
        assert key == KEY
        length = len(self.in_redis)
        self.fill()
        return length

    async def ltrim(self, key: str, start: int, end: int) -> str:
        assert (key, end) == (KEY, -1)
        self.fill()
        del self.in_redis[:start]
        return "OK"

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("forgotten", [0, 1, 3])
def test_states_that_arrive_meanwhile_cost_no_other(monkeypatch: pytest.MonkeyPatch, forgotten: int) -> None:
    store = Store(list(range(10)), list(range(forgotten, 10)))

    def connect(**_: Any) -> Store:
        return store

    monkeypatch.setattr(account_history, "Redis", connect)
    for _ in range(4):
        asyncio.run(AccountHistory(store.node, {}, 5).trim())
        assert store.in_redis[-len(store.in_memory) :] == store.in_memory
    # What arrived in between is made good the next time.
    assert len(store.in_redis) - len(store.in_memory) <= 1
