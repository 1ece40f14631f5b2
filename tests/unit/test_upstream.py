"""One connection to a master: why it ended, whatever the order in which that becomes known."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest

from trader_node.link.decisions import Decision, Reconnect
from trader_node.link.upstream import _Connection

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
FULL = b"-ERR max number of clients reached\r\n"


async def ended(serve: Serve, question: bytes) -> tuple[Decision, list[bytes]]:
    """Connect to a server, ask, and return how the connection ended and what came of it."""
    received: list[bytes] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        connection = _Connection(received.append, encrypted=False)
        host, port = server.sockets[0].getsockname()
        await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
        if not question:
            # The link is still busy connecting when the server's word comes.
            await asyncio.wait_for(asyncio.shield(connection.ended), 10)
        connection.write(question)
        return await asyncio.wait_for(connection.ended, 10), received


async def refuse_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(FULL)
    writer.close()


async def refuse_what_is_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)
    writer.write(FULL)
    writer.close()


async def answer_and_cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)
    writer.write(b"+OK\r\n")
    await reader.readexactly(1)
    writer.write(b"-ERR Protocol error: invalid bulk length\r\n")
    # Bytes that nobody has read make the kernel reset the connection.
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def test_a_server_that_speaks_first_refuses() -> None:
    decision, received = asyncio.run(ended(refuse_at_once, b""))
    assert decision == Reconnect("ERR max number of clients reached", delay=1.0, operator=True)
    assert received == [], "nobody has asked yet who could make sense of it"


def test_a_server_that_closes_after_nothing_but_an_error_refuses() -> None:
    decision, received = asyncio.run(ended(refuse_what_is_asked, b"PING"))
    assert decision == Reconnect("ERR max number of clients reached", delay=1.0, operator=True)
    assert received == [FULL]


@pytest.mark.parametrize("size", [2, 1 << 25])
def test_why_a_connection_was_reset_is_told_also_while_bytes_are_still_sent(size: int) -> None:
    decision, received = asyncio.run(ended(answer_and_cut_off, bytes(size)))
    assert isinstance(decision, Reconnect)
    assert decision.reason.endswith("ERR Protocol error: invalid bulk length")
    assert not decision.operator
    assert b"".join(received).startswith(b"+OK\r\n")
