"""RESP over a raw socket: no library in between hides a broken connection, retries, or costs time."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import hiredis


def pack(*parts: bytes) -> bytes:
    """Return a command in RESP."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def transaction(commands: Sequence[tuple[bytes, ...]]) -> bytes:
    """Return MULTI, the commands, EXEC. Its replies are two more than there are commands."""
    return b"".join(pack(*command) for command in [(b"MULTI",), *commands, (b"EXEC",)])


def read(connection: socket.socket, count: int) -> tuple[bytes, list[Any]]:
    """Return so many replies, as bytes and decoded; error replies are values among them.

    Raises
    ------
    OSError
        If the connection breaks or stays silent beyond its timeout.

    """
    reader = hiredis.Reader()
    received: list[bytes] = []
    replies: list[Any] = []
    while len(replies) < count:
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise ConnectionError("closed by the other side")
        received.append(chunk)
        reader.feed(chunk)
        while (reply := reader.gets()) is not False:
            replies.append(reply)
    return b"".join(received), replies


def first_error(replies: list[Any]) -> str | None:
    """Return the text of the first error among replies and their parts."""
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            return str(reply)
        if isinstance(reply, list) and (found := first_error(reply)) is not None:
            return found
    return None
