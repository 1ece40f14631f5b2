"""The bench against real processes: every kind of measurement comes to a figure. Speed is not judged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.bench import own_path, throughput
from drills.bench.failovers import Stage
from drills.bench.samples import ROUTES, Cell
from drills.network import allowed


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[throughput.Bench]:
    bench = throughput.Bench(tmp_path_factory.mktemp("bench"))
    try:
        bench.start()
        bench.fill()
        bench.fresh_link()
        yield bench
    finally:
        bench.stop()


@pytest.mark.parametrize(
    ("operation", "pipeline"), list(itertools.product(throughput.OPERATIONS, throughput.PIPELINES))
)
def test_every_operation_on_every_route(bench: throughput.Bench, operation: str, pipeline: int) -> None:
    for route in ROUTES:
        sample = bench.measure(Cell(operation, pipeline, 2), route, 0.05)
        assert sample.rate > 0
        assert 0 < sample.latency.p50 <= sample.latency.p95 <= sample.latency.p99
        assert (sample.proxy_cpu is None) == (sample.proxy_rss is None) == (route == "direct")
        assert (sample.journal_bytes is None) == (route != "link")


def test_a_nodes_own_requests(bench: throughput.Bench) -> None:
    found = own_path.measure(bench.port, 1, 3, throughput.in_turn)
    assert set(found) == set(itertools.product(own_path.REQUESTS, ROUTES))
    assert all(latency.p50 > 0 for latencies in found.values() for latency in latencies)


def test_the_link_drops_nothing_where_the_others_drop_a_batch(tmp_path: Path) -> None:
    if not allowed():
        pytest.fail("needs NET_ADMIN and SYS_ADMIN: run ./scripts/test, whose container has them")
    stage = Stage(tmp_path, min_replicas=1)
    try:
        stage.start()
        losses = stage.fail_over("kill")
    finally:
        stage.stop()
    assert losses["link"].lost == losses["link"].duplicated == 0, losses
    assert not losses["link"].dropped, losses
    # What that is worth: the same fault meets the others.
    assert losses["direct"].dropped, losses
    assert losses["haproxy"].dropped, losses
