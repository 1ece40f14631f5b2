"""What the link serves over HTTP: everything on loopback, the metrics alone for scrapers on other hosts."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from drills.waiting import wait_until
from trader_node.link import http
from trader_node.link.http import serve_http, serve_metrics


class _One(Collector):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("redis_link_up", "Test.", value=1.0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def collector() -> Any:
    return _One()


def test_the_metrics_port_serves_metrics_and_nothing_else(collector: Any) -> None:
    port = _free_port()
    serve_metrics(("127.0.0.1", port), collector)
    code, text = _get(port, "/metrics")
    assert (code, "redis_link_up 1.0" in text) == (200, True)
    for path in ("/status", "/healthz", "/"):
        assert _get(port, path) == (404, "not found: only /metrics is served here\n")


def test_the_loopback_port_tells_health_and_state_too(collector: Any) -> None:
    port = _free_port()
    serve_http(("127.0.0.1", port), lambda: {"healthy": False}, collector)
    assert _get(port, "/metrics")[0] == 200
    assert _get(port, "/status") == (200, '{"healthy": false}\n')
    assert _get(port, "/healthz")[0] == 503
    assert _get(port, "/other")[0] == 404


def test_a_flood_of_silent_connections_is_closed_and_ends(collector: Any) -> None:
    port = _free_port()
    serve_metrics(("127.0.0.1", port), collector)
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(http._MOST_REQUESTS + 1)]
    try:
        silent[-1].settimeout(3)
        assert silent[-1].recv(1) == b"", "one too many: closed at once, not after the others' 5 s"
        for connection in silent[:-1]:
            connection.close()

        def served() -> bool:
            try:
                return _get(port, "/metrics")[0] == 200
            except OSError:
                return False

        wait_until(served, 3, "the port serves again once the threads have noticed")
    finally:
        for connection in silent:
            connection.close()
