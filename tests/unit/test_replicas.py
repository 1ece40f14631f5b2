"""Which nodes hold entries back."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from trader_node.link.replicas import ReplicaMarkers
from trader_node.link.url import Address, parse_redis_url

A, B = ("10.0.0.1", 6379), ("10.0.0.2", 6379)


def test_node_that_was_removed_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Address] = []

    async def ask(_: ReplicaMarkers, node: Address) -> None:
        asked.append(node)

    monkeypatch.setattr(ReplicaMarkers, "_ask", ask)
    markers = ReplicaMarkers(parse_redis_url("redis://127.0.0.1:1"), "marker", "mine")
    markers.seen = {A: 10, B: 3}
    markers._history = {A: deque([(0.0, 10), (60.0, 10)]), B: deque([(0.0, 3), (60.0, 3)])}
    markers.silent = {B}
    assert markers.held_everywhere(60.0) == 3
    asyncio.run(markers.refresh({A, B}))
    assert markers.held_everywhere(60.0) == 3, "known and silent: it may come back as it was"
    asyncio.run(markers.refresh({A}))
    assert markers.held_everywhere(60.0) == 10
    assert markers.held_while_all_answer(60.0) == 10, "it is not waited for either"
    assert asked == [A, B, A]
