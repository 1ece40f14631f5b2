"""The message bus in Redis streams: without the link its publisher dies at the first broken connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from drills.stack import Stack
from drills.waiting import wait_until
from tests.stacks import ROOT, Journal

from .checks import check_nothing_lost, fail_over
from .conftest import FILES


@pytest.fixture
def publishing(stack: Stack) -> Iterator[Stack]:
    """The stack with a trader that publishes to Redis; as it was afterwards."""
    publishing = Stack(ROOT, FILES, {"MESSAGE_BUS_DATABASE": "true"})
    publishing.compose("up", "--detach", "--no-build", "--no-deps", "trader")
    try:
        publishing.heal()
        publishing.wait_for_writes()
        yield publishing
    finally:
        stack.compose("up", "--detach", "--no-build", "--no-deps", "trader")


def _published(stack: Stack, node: str) -> list[bytes]:
    """Return the payloads of all fills that were published."""
    client = stack.client(node, 5.0, decode=False)
    keys = list(client.scan_iter(f"trader-{stack.trader_id}:stream:events.fills.*", count=1000))
    return [b"".join(fields.values()) for key in keys for _, fields in client.xrange(key)]


def test_every_fill_is_published_once_through_a_failover(publishing: Stack, journal: Journal) -> None:
    began = publishing.report()["started_ns"]
    fault, promotion, known = fail_over(publishing)
    new = promotion.master
    own = publishing.report("--quiesce")
    publishing.report("--resume")
    fills = [
        event["event_id"]
        for order in own["orders"].values()
        for event in order["events"]
        if event["type"] == "OrderFilled" and event["ts_init"] > began
    ]
    assert len(fills) > 50, "too few fills to compare"

    def counts() -> Counter[int]:
        payloads = b"|".join(_published(publishing, new))
        return Counter(payloads.count(fill.encode()) for fill in fills)

    # The bus has a buffer and a connection of its own, which the quiet of the cache says nothing about.
    wait_until(lambda: counts()[0] == 0, 10, "every fill is published")
    assert counts() == Counter({1: len(fills)}), "published twice"
    fault.heal()
    publishing.heal()
    compared = check_nothing_lost(publishing, known)
    journal.add(f"kill with message bus: {len(fills)} fills published once each; {compared}")
