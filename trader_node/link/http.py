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

from .metrics import LinkCollector
from .url import Address

Status = Callable[[], dict[str, Any]]


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per request: a client that says nothing keeps nobody waiting."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    #: Seconds for a request.
    timeout = 5

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a health check every second is no news."""


def serve_http(address: Address, status: Status, collector: LinkCollector) -> None:
    """Serve ``/healthz``, ``/status`` and ``/metrics`` in a thread. Raises ``OSError`` if the port is taken."""
    registry = CollectorRegistry()
    registry.register(collector)
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
