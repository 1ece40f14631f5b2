"""Transactions as NautilusTrader's cache sends them, and a generator that drives many connections with them.

redis-benchmark cannot send MULTI ... EXEC as one request, so this one does, over raw sockets. Every reply is compared
byte by byte with the one that is right, which is cheaper than parsing it and counts no error as work.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import uvloop

from .samples import NoDataError
from .wire import first_error, read, transaction

#: Commands between MULTI and EXEC: Nautilus' mean at 20 orders per second and a buffer of 100 ms.
COMMANDS = 42
#: Bytes of an event as Nautilus stores it (msgpack), e.g. of an OrderFilled.
EVENT_BYTES = 500
_TRADER = "trader-BENCH"
#: A reply that has not come after so many seconds will not come.
_PATIENCE = 20.0


def order_commands(order: str) -> list[tuple[bytes, ...]]:
    """Return what an order, its fill and its position write, 21 commands.

    The first three forget the order of the same name that was there before, as a node with a bounded history does.
    That also makes every transaction but the first get the same replies.
    """
    event = b"e" * EVENT_BYTES

    def key(collection: str) -> bytes:
        return f"{_TRADER}:{collection}".encode()

    order_id, position_id = f"O-{order}".encode(), f"P-{order}".encode()
    orders, positions = key(f"orders:O-{order}"), key(f"positions:P-{order}")
    return [
        (b"DEL", orders),
        (b"DEL", positions),
        (b"SREM", key("index:orders_closed"), order_id),
        (b"RPUSH", orders, event),
        (b"SADD", key("index:orders"), order_id),
        (b"HSET", key("index:order_position"), order_id, position_id),
        (b"HSET", key("index:order_client"), order_id, b"SIM"),
        (b"SADD", key("index:orders_inflight"), order_id),
        (b"RPUSHX", orders, event),
        (b"RPUSHX", orders, event),
        (b"SREM", key("index:orders_inflight"), order_id),
        (b"SADD", key("index:orders_open"), order_id),
        (b"RPUSHX", orders, event),
        (b"SREM", key("index:orders_open"), order_id),
        (b"SADD", key("index:orders_closed"), order_id),
        (b"RPUSH", positions, event),
        (b"SADD", key("index:positions"), position_id),
        (b"SADD", key("index:positions_open"), position_id),
        (b"RPUSHX", positions, event),
        (b"SADD", key("index:strategy_orders:S-001"), order_id),
        (b"SET", key(f"general:{order}"), event),
    ]


def batch(name: str) -> bytes:
    """Return one transaction of 42 commands, about 11 kB; ``name`` tells its keys from those of others."""
    commands = [command for number in (1, 2) for command in order_commands(f"{name}-{number}")]
    return transaction(commands)


def usual_replies(address: tuple[str, int], request: bytes) -> bytes:
    """Send a transaction twice and return the bytes of its second replies, which all further ones must equal.

    Raises
    ------
    RuntimeError
        If a reply is an error.

    """
    with socket.create_connection(address, _PATIENCE) as connection:
        for _ in range(2):
            connection.sendall(request)
            received, replies = read(connection, COMMANDS + 2)
            if (error := first_error(replies)) is not None:
                raise RuntimeError(f"error instead of a reply: {error}")
        return received


def difference(received: bytes, expected: bytes) -> str:
    """Return what is there and what should be, from a few bytes before the first difference."""
    same = next((place for place, (a, b) in enumerate(zip(received, expected, strict=False)) if a != b), 0)
    start = max(0, same - 20)
    return f"{received[start : same + 100]!r} instead of {expected[start : same + 20]!r}"


@dataclass(slots=True)
class _Load:
    """What all connections share; times are of ``time.perf_counter``."""

    seconds: list[float] = field(default_factory=list)
    #: Nothing is sent from then on.
    until: float = 0.0
    #: When the last reply came.
    last: float = 0.0


class _Client(asyncio.Protocol):
    """One connection that keeps a number of transactions in flight until the time is over."""

    def __init__(self, load: _Load, request: bytes, replies: bytes, pipeline: int) -> None:
        self._load = load
        self._request = request
        self._replies = replies
        self._pipeline = pipeline
        self._sent_at: list[float] = []
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)

    def begin(self) -> None:
        """Fill the pipeline."""
        self._send(self._pipeline)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        received = self._received + data if self._received else data
        size = len(self._replies)
        complete = len(received) // size
        for number in range(complete):
            if received[number * size : (number + 1) * size] != self._replies:
                self._fail(f"unexpected reply: {difference(received[number * size :], self._replies)}")
                return
        self._received = received[complete * size :]
        self._load.seconds += [now - sent_at for sent_at in self._sent_at[:complete]]
        del self._sent_at[:complete]
        if now < self._load.until:
            self._send(complete)
        elif not self._sent_at and not self.done.done():
            self._load.last = max(self._load.last, now)
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection broke: {exc}")

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def _send(self, count: int) -> None:
        assert self._transport is not None
        if count:
            self._sent_at += [time.perf_counter()] * count
            self._transport.write(self._request * count)

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))


@dataclass(frozen=True, slots=True)
class Drive:
    """What came of driving connections with transactions for a while; all times in seconds."""

    #: From request to reply, one for each transaction.
    seconds: list[float]
    #: From the first request to the last reply.
    elapsed: float
    #: CPU time of the generator.
    generator_cpu: float


def drive(address: tuple[str, int], connections: int, pipeline: int, seconds: float) -> Drive:
    """Keep ``pipeline`` transactions in flight on each connection for so many seconds, and return what came of it.

    Raises
    ------
    RuntimeError
        If a reply was not the right one or a connection broke.
    NoDataError
        If nothing was answered.

    """
    gc.collect()
    gc.disable()
    try:
        driven = uvloop.run(_drive(address, connections, pipeline, seconds))
    finally:
        gc.enable()
    if not driven.seconds:
        raise NoDataError("no data: not one transaction was answered")
    return driven


async def _drive(address: tuple[str, int], connections: int, pipeline: int, seconds: float) -> Drive:
    loop = asyncio.get_running_loop()
    load = _Load()
    clients = []
    for number in range(connections):
        request = batch(f"c{number:03d}")
        replies = usual_replies(address, request)
        _, client = await loop.create_connection(partial(_Client, load, request, replies, pipeline), *address)
        clients.append(client)
    cpu, start = time.process_time(), time.perf_counter()
    load.until = start + seconds
    for client in clients:
        client.begin()
    async with asyncio.timeout(seconds + _PATIENCE):
        await asyncio.gather(*(client.done for client in clients))
    cpu = time.process_time() - cpu
    for client in clients:
        client.close()
    return Drive(load.seconds, load.last - start, cpu)
