"""Health, state and metrics over HTTP, for Compose, for people and for Prometheus."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .url import Address

Status = Callable[[], dict[str, Any]]

_COUNTERS = {
    "accepted": "Writes accepted from clients.",
    "acknowledged": "Writes applied and answered.",
    "replayed": "Writes sent again because a master lacked them.",
    "refused": "Writes that Redis refused for good.",
    "fenced": "Transactions that a fence aborted.",
    "lost_replies": "Writes applied whose answer was lost.",
    "told_early": "Writes answered from the journal before they were applied.",
    "late_errors": "Writes answered from the journal and then applied with an error.",
    "handshakes": "Handshakes with a master.",
    "master_changes": "Changes from one master to another.",
}


class _Collector:
    """Turns the link's state into metrics at the time of a scrape, so that the hot path counts nothing twice."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        status = self._status()
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"redis_link_{name}", text, value=status[name])
        journal = status["journal"]
        gauges = {
            "up": ("Whether writes are applied right now.", status["state"] == "ready"),
            "healthy": ("0 once the link has stopped and needs an operator.", status["healthy"]),
            "held_entries": ("Accepted writes not known to be applied.", status["unfinished"]),
            "clients": ("Connected clients.", status["clients"]),
            "journal_bytes": ("Bytes of the journal.", journal["bytes"]),
            "journal_limit_bytes": ("Bound of the journal in bytes.", journal["max_bytes"]),
            "journal_entries": ("Entries in the journal.", journal["entries"]),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"redis_link_{name}", text, value=float(value))
        lag = GaugeMetricFamily("redis_link_node_lag_entries", "Entries that a node lacks.", labels=["node"])
        for node, seq in status["markers"].items():
            lag.add_metric([node], status["applied_seq"] - seq)
        yield lag


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per request: a client that says nothing keeps nobody waiting."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    #: Seconds for a request.
    timeout = 5

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a health check every second is no news."""


def serve_http(address: Address, status: Status) -> None:
    """Serve ``/healthz``, ``/status`` and ``/metrics`` in a thread. Raises ``OSError`` if the port is taken."""
    registry = CollectorRegistry()
    registry.register(_Collector(status))
    metrics: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]] = make_wsgi_app(registry)

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start)
        if path not in ("/healthz", "/status"):
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not found: /healthz, /status and /metrics are served\n"]
        state = status()
        code = "200 OK" if path == "/status" or state["healthy"] else "503 Service Unavailable"
        start(code, [("Content-Type", "application/json")])
        return [json.dumps(state).encode() + b"\n"]

    server = make_server(address[0], address[1], application, server_class=_Server, handler_class=_QuietHandler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
