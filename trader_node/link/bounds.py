"""Bounds of what one command of a client may promise, kept before hiredis makes room for it.

hiredis makes a list of as many places as a header names, at once: ``*1000000000`` would cost the garbage collector
seconds, in which the link serves nobody. Redis makes room only for what has come.

Looking at every header here would cost more than all that hiredis does, and is not needed: a command that promises so
much does not end in the chunk that it begins in. So whole commands are only searched for what looks like such a
header, and the one at the end of a chunk is followed exactly.
"""

from __future__ import annotations

import re

#: Arguments of a command, bytes of an argument, bytes of a command; as in Redis (``PROTO_REQ_MULTIBULK``,
#: ``proto-max-bulk-len`` and ``client-query-buffer-limit``).
MOST_ARGUMENTS = 1 << 20
MOST_ARGUMENT_BYTES = 512 << 20
MOST_COMMAND_BYTES = 1 << 30

NO_COMMAND = "ERR Protocol error: commands must be RESP arrays of bulk strings"
_TOO_MANY = "ERR Protocol error: invalid multibulk length"
_TOO_LONG = "ERR Protocol error: invalid bulk length"
_TOO_BIG = "ERR Protocol error: too big a command"

#: What hiredis makes a list for, with at least seven digits: ``MOST_ARGUMENTS`` has as many. The sets and pushes of
#: RESP3 apart, because looking for one character first is several times as fast, and most chunks hold none.
_ARRAY = re.compile(rb"\n\*[1-9][0-9]{6}").search
_SET_OR_PUSH = re.compile(rb"\n[~>][1-9][0-9]{6}").search
_DIGITS = 7
_HEADER = re.compile(rb"([*$])(0|[1-9][0-9]*)\r\n")
#: Longer than any header within the bounds, line end included.
_MOST_LINE = 16


class CommandBounds:
    """Follows one client's bytes: :meth:`admit` before hiredis gets them, :meth:`parsed` behind it."""

    __slots__ = ("_arguments", "_bytes", "_line", "_size", "before", "error", "followed")

    def __init__(self) -> None:
        #: Why what follows is not taken, or nothing.
        self.error = ""
        #: Of the command under way: bytes that have come, the header line that has not ended, arguments that are
        #: still to come, and how many bytes of the one under way.
        self._size = 0
        self._line = b""
        self._arguments = 0
        self._bytes = 0
        #: Bytes of the command under way that came before the latest chunk.
        self.before = 0
        #: The latest chunk was followed to its end, so that ``parsed`` has nothing to say.
        self.followed = False

    def admit(self, data: bytes) -> int:
        """Return how many bytes of a chunk hiredis may have: all, unless ``error`` says why not."""
        begin, self.before, self.followed = 0, self._size, False
        if self.before:
            begin = self._follow(data, 0, whole=False)
            if self.error or begin == len(data):
                self.followed = True
                return begin
        # Where the chunk or the next command begins, or behind a line end.
        if (
            data[begin + 1 : begin + 1 + _DIGITS].isdigit()
            or _ARRAY(data, begin)
            or ((b"~" in data or b">" in data) and _SET_OR_PUSH(data, begin))
        ):
            self.followed = True
            return self._follow(data, begin)
        return len(data)

    def parsed(self, data: bytes, size: int) -> None:
        """Look at what is behind the commands that hiredis found, which had ``size`` bytes; may set ``error``."""
        if size - self.before < len(data):
            self._follow(data, size - self.before)

    def _follow(self, data: bytes, position: int, *, whole: bool = True) -> int:
        """Follow a chunk to its end or, unless ``whole``, to that of the command under way; return where that is.

        If ``error`` is set: where the command begins that breaks the bounds, 0 if in an earlier chunk.
        """
        begin, end = position if self._size == 0 else 0, len(data)
        while position < end:
            if self._bytes:
                step = min(self._bytes, end - position)
                self._bytes -= step
                self._arguments -= self._bytes == 0
            else:
                stop = data.find(b"\n", position, position + _MOST_LINE) + 1
                line = data[position : stop or position + _MOST_LINE]
                step = len(line)
                self._line += line
                if stop:
                    self.error = self._header(self._line)
                    self._line = b""
                elif len(self._line) >= _MOST_LINE:
                    self.error = _TOO_MANY if self._line.startswith(b"*") else NO_COMMAND
                if self.error:
                    return begin
            position += step
            self._size += step
            if not (self._arguments or self._line):
                self._size, begin = 0, position
                if not whole:
                    break
        return position

    def _header(self, line: bytes) -> str:
        """Take a whole header; return why it is refused, or nothing."""
        match = _HEADER.fullmatch(line)
        if match is None or (match[1] == b"*") is (self._arguments > 0):
            return NO_COMMAND
        number = int(match[2])
        if match[1] == b"*":
            self._arguments = number
            return _TOO_MANY if number > MOST_ARGUMENTS else ""
        self._bytes = number + len(b"\r\n")
        if number > MOST_ARGUMENT_BYTES:
            return _TOO_LONG
        return _TOO_BIG if self._size + number > MOST_COMMAND_BYTES else ""
