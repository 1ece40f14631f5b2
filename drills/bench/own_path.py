"""What one Nautilus node sees: a buffered batch now and then, and single reads, one request in flight."""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Callable

from . import batches
from .samples import ROUTES, Latency, Route, latency
from .wire import first_error, pack, read

REQUESTS = ("batch", "GET", "LRANGE")
#: Between two requests. Nautilus waits 100 ms; this is short enough for many samples and long enough that all
#: processes go to sleep in between, which one request right after another would hide.
_PAUSE = 0.005
_COMMANDS = {
    "batch": (batches.batch("own"), batches.COMMANDS + 2),
    "GET": (pack(b"GET", b"event"), 1),
    "LRANGE": (pack(b"LRANGE", b"position", b"0", b"-1"), 1),
}

Latencies = dict[tuple[str, Route], list[Latency]]


def measure(
    port: Callable[[Route], int], runs: int, requests: int, in_turn: Callable[[int], tuple[Route, ...]]
) -> Latencies:
    """Send so many requests of each kind on each route, interleaved, and return the percentiles of each run."""
    found: Latencies = defaultdict(list)
    for run in range(runs):
        times: dict[tuple[str, Route], list[float]] = defaultdict(list)
        connections = {route: socket.create_connection(("127.0.0.1", port(route)), 5) for route in ROUTES}
        try:
            for number in range(-10, requests):
                for route in in_turn(run + number):
                    for request in REQUESTS:
                        time.sleep(_PAUSE)
                        spent = _exchange(connections[route], *_COMMANDS[request])
                        # The first ones warm up.
                        if number >= 0:
                            times[request, route].append(spent)
        finally:
            for connection in connections.values():
                connection.close()
        for request in REQUESTS:
            for route in ROUTES:
                found[request, route].append(latency(times[request, route]))
    return dict(found)


def _exchange(connection: socket.socket, request: bytes, replies: int) -> float:
    began = time.perf_counter()
    connection.sendall(request)
    _, decoded = read(connection, replies)
    spent = time.perf_counter() - began
    if (error := first_error(decoded)) is not None:
        raise RuntimeError(f"error instead of a reply: {error}")
    return spent
