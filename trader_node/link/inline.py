"""Inline commands: a line of words instead of a RESP array, as people type them and redis-benchmark's PING_INLINE does.

Quoting follows ``sdssplitargs`` of Redis: double quotes with escapes, single quotes without.
"""

from __future__ import annotations

import re
import string

#: As in Redis: a line longer than this, in bytes, is no command.
MOST_BYTES = 64 << 10
#: What a line of words may begin with. Anything else is another protocol, such as TLS, and better refused at once.
LINE_STARTS = frozenset(b"\r\n \t\"'" + string.ascii_letters.encode())
#: How ``redis-cli --pipe`` ends: an empty inline command, lest it stand behind half a line, and an ECHO.
LAST_OF_PIPE = re.compile(rb"\r\n\*2\r\n\$4\r\nECHO\r\n\$20\r\n(.{20})\r\n\Z", re.DOTALL)

_ESCAPES = {ord("n"): b"\n", ord("r"): b"\r", ord("t"): b"\t", ord("b"): b"\b", ord("a"): b"\a"}
_BLANKS = b" \t\r\n\v\f\0"
_DOUBLE, _SINGLE, _BACKSLASH = ord('"'), ord("'"), ord("\\")


class InlineError(ValueError):
    """The line is no command; the message is Redis' own."""


def split_line(line: bytes) -> tuple[bytes, ...]:
    """Return the words of a line, without the line's end.

    Raises
    ------
    InlineError
        If quotes are not balanced.

    """
    words: list[bytes] = []
    position = 0
    while True:
        while position < len(line) and line[position] in _BLANKS:
            position += 1
        if position == len(line):
            return tuple(words)
        word, position = _word(line, position)
        words.append(word)


def _word(line: bytes, position: int) -> tuple[bytes, int]:
    word = bytearray()
    quote = 0
    while position < len(line):
        byte = line[position]
        if quote == 0 and byte in _BLANKS:
            return bytes(word), position
        if quote == 0 and byte in (_DOUBLE, _SINGLE):
            quote = byte
        elif quote and byte == quote:
            position += 1
            if position < len(line) and line[position] not in _BLANKS:
                break
            return bytes(word), position
        elif quote == _DOUBLE and byte == _BACKSLASH and position + 1 < len(line):
            position = _escape(line, position + 1, word)
            continue
        elif quote == _SINGLE and line[position : position + 2] == b"\\'":
            word += b"'"
            position += 1
        else:
            word.append(byte)
        position += 1
    if quote:
        raise InlineError("ERR Protocol error: unbalanced quotes in request")
    return bytes(word), position


def _escape(line: bytes, position: int, word: bytearray) -> int:
    """Take the escape whose letter is at ``position``; return the position behind it."""
    digits = line[position + 1 : position + 3]
    if line[position] == ord("x") and len(digits) == 2 and all(digit in b"0123456789abcdefABCDEF" for digit in digits):
        word += bytes.fromhex(digits.decode())
        return position + 3
    word += _ESCAPES.get(line[position], line[position : position + 1])
    return position + 1
