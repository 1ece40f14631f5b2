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


Application = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

#: Requests under way at a time; a connection beyond them is closed at once.
_MOST_REQUESTS = 16


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per request: a client that says nothing keeps nobody waiting. Bounded: a flood costs little."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.BoundedSemaphore(_MOST_REQUESTS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if not too many are busy."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            # There is no thread to be had, so none gives it back.
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _QuietHandler(WSGIRequestHandler):
    #: Seconds for a request.
    timeout = 5

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a health check every second is no news."""


def serve_http(address: Address, status: Status, collector: LinkCollector) -> None:
    """Serve ``/healthz``, ``/status`` and ``/metrics`` in a thread. Raises ``OSError`` if the port is taken."""
    metrics = _metrics(collector)

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start)
        if path not in ("/healthz", "/status"):
            return _not_found(start, "/healthz, /status and /metrics are served")
        state = status()
        code = "200 OK" if path == "/status" or state["healthy"] else "503 Service Unavailable"
        start(code, [("Content-Type", "application/json")])
        return [json.dumps(state).encode() + b"\n"]

    _serve(address, application)


def serve_metrics(address: Address, collector: LinkCollector) -> None:
    """Serve ``/metrics`` and nothing else, for scrapers on other hosts. Raises ``OSError`` if the port is taken."""
    metrics = _metrics(collector)

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "") == "/metrics":
            return metrics(environ, start)
        return _not_found(start, "only /metrics is served here")

    _serve(address, application)


def _metrics(collector: LinkCollector) -> Application:
    registry = CollectorRegistry()
    registry.register(collector)
    application: Application = make_wsgi_app(registry)
    return application


def _not_found(start: StartResponse, text: str) -> Iterable[bytes]:
    start("404 Not Found", [("Content-Type", "text/plain")])
    return [f"not found: {text}\n".encode()]


def _serve(address: Address, application: Application) -> None:
    server = make_server(address[0], address[1], application, server_class=_Server, handler_class=_QuietHandler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
