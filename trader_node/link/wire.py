"""RESP2 framing: encode commands, and cut a stream of replies into whole replies without decoding them.

Replies are passed on as the bytes that Redis sent: decoding and encoding again would lose the difference between a
status and a bulk string. Source of the format: the "RESP protocol specification" page of the Redis documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import hiredis

CRLF = b"\r\n"
OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"
PONG = b"+PONG\r\n"
NIL_ARRAY = b"*-1\r\n"
EMPTY_ARRAY = b"*0\r\n"

#: The stub of hiredis knows tuples of one element only.
_pack: Callable[[Any], bytes] = hiredis.pack_command

_ARRAY, _BULK, _ERROR = ord("*"), ord("$"), ord("-")
_LINE_TYPES = frozenset(b"+-:")
#: Beyond this many consumed bytes the buffer is cut, so that one long stream does not keep what was read.
_COMPACT_BYTES = 1 << 16


class ProtocolError(ValueError):
    """The peer sent bytes that are not RESP2."""


def encode_command(*arguments: bytes | str | int) -> bytes:
    """Return one command as a RESP array of bulk strings."""
    return _pack(arguments)


def encode_commands(commands: Iterable[Sequence[bytes]]) -> bytes:
    """Return commands, one after another, each as a RESP array of bulk strings."""
    return b"".join(map(_pack, map(tuple, commands)))


def encode_error(message: str) -> bytes:
    """Return an error reply; line breaks in the message would end it early and become blanks."""
    return b"-" + message.replace("\r", " ").replace("\n", " ").encode() + CRLF


def encode_bulk(value: bytes) -> bytes:
    """Return a bulk string reply."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def encode_integer(value: int) -> bytes:
    """Return an integer reply."""
    return b":%d\r\n" % value


def is_error(reply: bytes) -> bool:
    """Tell whether a whole reply is an error."""
    return reply[0] == _ERROR


def error_text(reply: bytes) -> str:
    """Return the text of an error reply, without the leading minus."""
    return reply[1:-2].decode(errors="replace")


class ReplyFramer:
    """Cut the bytes of an upstream connection into whole replies, in time linear in their size."""

    __slots__ = ("_buffer", "_outstanding", "_scan", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0  # where the reply under way begins
        self._scan = 0  # up to where it has been looked at
        self._outstanding = 1  # elements of it that are not complete yet

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        self._buffer += data

    def skip(self, expected: bytes) -> bool:
        """Drop ``expected`` if the unread bytes begin with it: the fast path over a run of constant replies."""
        if self._scan != self._start or not self._buffer.startswith(expected, self._start):
            return False
        self._start += len(expected)
        self._scan = self._start
        self._compact()
        return True

    def take_lines(self, before: bytes, after: bytes, count: int) -> list[bytes] | None:
        """Drop ``before``, ``count`` one-line replies and ``after`` if that is all there is; return the lines.

        The fast path over a whole answer to a transaction. None, and nothing dropped, if anything else is unread.
        Exact, although it looks for ``after`` from the end: without a bulk string or an array every line break ends a
        reply, so counting the lines proves where each of them begins.
        """
        buffer, start = self._buffer, self._start
        if (
            self._scan != start
            or len(buffer) - start < len(before) + len(after)
            or not buffer.startswith(before, start)
            or not buffer.endswith(after)
        ):
            return None
        body = bytes(buffer[start + len(before) : len(buffer) - len(after)])
        if b"$" in body or b"*" in body:
            return None
        lines = body.split(CRLF)
        if lines.pop() or len(lines) != count:
            return None
        buffer.clear()
        self._start = self._scan = 0
        return lines

    def next(self) -> bytes | None:
        """Return the next whole reply, or None until more bytes come.

        Raises
        ------
        ProtocolError
            If the bytes are not RESP2.

        """
        buffer = self._buffer
        while self._outstanding:
            line_end = buffer.find(CRLF, self._scan)
            if line_end < 0:
                return None
            kind = buffer[self._scan]
            if kind in _LINE_TYPES:
                self._scan = line_end + 2
                self._outstanding -= 1
                continue
            count = _count(buffer, self._scan, line_end)
            if kind == _BULK:
                end = line_end + 2 if count < 0 else line_end + 2 + count + 2
                if end > len(buffer):
                    return None
                self._scan = end
                self._outstanding -= 1
            elif kind == _ARRAY:
                self._scan = line_end + 2
                self._outstanding += max(count, 0) - 1
            else:
                raise ProtocolError(f"unexpected reply type {chr(kind)!r}")
        reply = bytes(buffer[self._start : self._scan])
        self._start = self._scan
        self._outstanding = 1
        self._compact()
        return reply

    def _compact(self) -> None:
        if self._start == len(self._buffer):
            self._buffer.clear()
        elif self._start > _COMPACT_BYTES:
            del self._buffer[: self._start]
        else:
            return
        self._scan -= self._start
        self._start = 0


def split_array(reply: bytes) -> list[bytes] | None:
    """Split one whole array reply into its elements' replies; None for the nil array.

    Raises
    ------
    ProtocolError
        If the reply is not an array.

    """
    if reply[0] != _ARRAY:
        raise ProtocolError(f"expected an array, got {reply[:32]!r}")
    if reply == NIL_ARRAY:
        return None
    framer = ReplyFramer()
    framer.feed(reply[reply.index(CRLF) + 2 :])
    elements = []
    while (element := framer.next()) is not None:
        elements.append(element)
    return elements


def decode(reply: bytes) -> object:
    """Decode one whole reply with hiredis; for the link's own small control replies."""
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


def split_commands(payload: bytes) -> list[tuple[bytes, ...]]:
    """Return the commands of a payload that the link has encoded itself."""
    reader = hiredis.Reader()
    reader.feed(payload)
    commands = []
    while (command := reader.gets()) is not False:
        commands.append(tuple(cast("list[bytes]", command)))
    return commands


def join_array(elements: Sequence[bytes]) -> bytes:
    """Return an array reply of replies that are already encoded."""
    return b"*%d\r\n" % len(elements) + b"".join(elements)


def _count(buffer: bytearray, start: int, end: int) -> int:
    try:
        return int(buffer[start + 1 : end])
    except ValueError as error:
        raise ProtocolError(f"bad length {bytes(buffer[start:end][:32])!r}") from error
