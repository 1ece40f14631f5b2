"""Blocking commands: what they wait for and how long.

The link never lets Redis block on a write: what Redis does when data arrives would be a write outside of the link's
sequence, with no marker. It waits itself, and then submits the command as an entry. As every entry is sent inside
MULTI and EXEC, where a
blocking command never waits, it comes back at once, in its own form.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from .pins import INTEGER
from .verdicts import Arguments


@dataclass(frozen=True, slots=True)
class Blocking:
    """A blocking command, taken apart."""

    arguments: Arguments
    #: Redis type of what it waits for, as TYPE tells it.
    kind: bytes
    #: Keys that it waits for data in, and where they begin among the arguments.
    keys: Arguments
    first_key: int
    #: Seconds; 0 for ever; None if Redis will refuse the number.
    timeout: float | None
    #: Consumer group of XREADGROUP.
    group: bytes = b""
    #: Key that it pushes to.
    destination: bytes | None = None

    def narrowed(self, keys: Collection[bytes]) -> Arguments:
        """Return the command for some of its keys."""
        chosen = tuple(key for key in self.keys if key in keys)
        if len(chosen) == len(self.keys) or self.kind == b"stream":
            return self.arguments
        begin, end = self.first_key, self.first_key + len(self.keys)
        head, tail = self.arguments[:begin], self.arguments[end:]
        if head[0].upper().endswith(b"MPOP"):
            head = (*head[:2], b"%d" % len(chosen))
        return (*head, *chosen, *tail)


#: Blocking commands that write, and the type that each waits for.
BLOCKING_WRITES = {
    **dict.fromkeys([b"BLPOP", b"BRPOP", b"BLMPOP", b"BLMOVE", b"BRPOPLPUSH"], b"list"),
    **dict.fromkeys([b"BZPOPMIN", b"BZPOPMAX", b"BZMPOP"], b"zset"),
}


def parse_blocking(arguments: Arguments) -> Blocking | None:
    """Take a command of ``BLOCKING_WRITES`` apart; None if it is malformed, so that Redis shall say how."""
    name = arguments[0].upper()
    kind = BLOCKING_WRITES[name]
    if name in (b"BLMOVE", b"BRPOPLPUSH"):
        if len(arguments) != (6 if name == b"BLMOVE" else 4):
            return None
        return Blocking(arguments, kind, arguments[1:2], 1, _seconds(arguments[-1]), destination=arguments[2])
    if name in (b"BLMPOP", b"BZMPOP"):
        if len(arguments) < 5 or not INTEGER.fullmatch(arguments[2]):
            return None
        count = int(arguments[2])
        if not 0 < count <= len(arguments) - 4:
            return None
        return Blocking(arguments, kind, arguments[3 : 3 + count], 3, _seconds(arguments[1]))
    if len(arguments) < 3:
        return None
    return Blocking(arguments, kind, arguments[1:-1], 1, _seconds(arguments[-1]))


def parse_stream_read(arguments: Arguments) -> Blocking | None:
    """Take XREAD or XREADGROUP apart; None if it does not block or is malformed."""
    grouped = arguments[0].upper() == b"XREADGROUP"
    # Names of the group and the consumer may spell anything.
    index = 4 if grouped else 1
    timeout: float | None = None
    blocks = False
    while index < len(arguments):
        option = arguments[index].upper()
        if option == b"STREAMS":
            break
        if option == b"BLOCK" and index + 1 < len(arguments):
            blocks = True
            number = arguments[index + 1]
            timeout = int(number) / 1000 if INTEGER.fullmatch(number) and not number.startswith(b"-") else None
        index += 1 if option == b"NOACK" else 2
    named = arguments[index + 1 :]
    if not blocks or not named or len(named) % 2:
        return None
    keys = named[: len(named) // 2]
    return Blocking(arguments, b"stream", keys, index + 1, timeout, group=arguments[2] if grouped else b"")


def parse_any(arguments: Arguments) -> Blocking:
    """Take a command apart that is known to block."""
    stream = arguments[0].upper() not in BLOCKING_WRITES
    blocking = parse_stream_read(arguments) if stream else parse_blocking(arguments)
    assert blocking is not None
    return blocking


def ids_of(blocking: Blocking) -> Arguments:
    """Return the ids that XREAD or XREADGROUP reads behind, one for each key."""
    return blocking.arguments[blocking.first_key + len(blocking.keys) :]


def with_ids(blocking: Blocking, ids: Arguments, block_ms: int) -> Arguments:
    """Return the XREAD with other ids and another time to wait."""
    head = list(blocking.arguments[: blocking.first_key])
    for index in range(1, len(head) - 1):
        if head[index].upper() == b"BLOCK":
            head[index + 1] = b"%d" % block_ms
    return (*head, *blocking.keys, *ids)


def _seconds(text: bytes) -> float | None:
    # Redis (timeout.c) takes a long double; "nan" and what overflows are refused there.
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1 << 53 and math.isfinite(seconds) and b"_" not in text else None
