"""Commands that are pinned from their outcome: what they did depends on chance, on the clock or on the machine.

Each function here takes the reply that Redis gave when it first ran a command, and returns the commands that do the
same to the same data at any later time. Where Redis itself replicates such a command in another form (SPOP as SREM,
INCRBYFLOAT as SET), that form is used. As long as nobody has seen a reply, running the command itself is right.

How long a message of a consumer group has been idle is not part of the outcome: after a replay it counts from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from . import wire
from .verdicts import Arguments, PinFunction

#: More than any message has been idle, in milliseconds.
_FOREVER = b"%d" % ((1 << 62) - 1)


def outcome_pin(arguments: Arguments) -> PinFunction | None:
    """Return the function that pins a command from its reply, or None where the command itself is exact."""
    pin = _OUTCOMES.get(arguments[0].upper())
    return None if pin is None else partial(_unless_error, pin, arguments)


def _unless_error(
    pin: Callable[[Arguments, object], tuple[Arguments, ...]], arguments: Arguments, reply: bytes
) -> tuple[Arguments, ...]:
    # All these commands find their mistakes before they change anything.
    return () if wire.is_error(reply) else pin(arguments, wire.decode(reply))


def _spop(arguments: Arguments, reply: object) -> tuple[Arguments, ...]:
    members = reply if isinstance(reply, list) else [] if reply is None else [reply]
    return ((b"SREM", arguments[1], *members),) if members else ()


def _incrbyfloat(arguments: Arguments, reply: object) -> tuple[Arguments, ...]:
    # Long doubles have 80 bits on x86-64 and 128 on ARM64.
    assert isinstance(reply, bytes)
    return ((b"SET", arguments[1], reply, b"KEEPTTL"),)


def _hincrbyfloat(arguments: Arguments, reply: object) -> tuple[Arguments, ...]:
    assert isinstance(reply, bytes)
    return ((b"HSET", arguments[1], arguments[2], reply),)


def _xclaim(arguments: Arguments, reply: object) -> tuple[Arguments, ...]:
    # XCLAIM key group consumer min-idle id [id ...] [options]
    assert isinstance(reply, list)
    claimed = _ids(reply)
    end = 5
    while end < len(arguments) and _parse_id(arguments[end]) is not None:
        end += 1
    head, options = arguments[:4], arguments[end:]
    left = [each for each in arguments[4 + 1 : end] if _parse_id(each) not in set(map(_parse_id, claimed))]
    pinned: list[Arguments] = []
    if left or not claimed:
        # What is not in the stream any more leaves the group's pending entries, however idle. Without FORCE, which
        # would claim what was left alone for the idle time that it had.
        kept = tuple(option for option in options if option.upper() != b"FORCE")
        pinned.append((*head, _FOREVER, *(left or [b"0-0"]), *kept))
    if claimed:
        pinned.append((*head, b"0", *claimed, *options))
    return tuple(pinned)


def _xautoclaim(arguments: Arguments, reply: object) -> tuple[Arguments, ...]:
    # XAUTOCLAIM key group consumer min-idle start [COUNT count] [JUSTID]; reply: next start, claimed, deleted ids
    assert isinstance(reply, list)
    claimed = _ids(reply[1])
    just_id = (b"JUSTID",) if any(option.upper() == b"JUSTID" for option in arguments[6:]) else ()
    key, group, consumer = arguments[1:4]
    pinned: list[Arguments] = []
    if claimed:
        pinned.append((b"XCLAIM", key, group, consumer, b"0", *claimed, *just_id))
    else:
        # Redis 7.2 makes the consumer known even if it claims nothing, 7.0 does not, and so it is with this.
        pinned.append((b"XCLAIM", key, group, consumer, _FOREVER, b"0-0"))
    if deleted := reply[2]:
        pinned.append((b"XACK", key, group, *deleted))
    return tuple(pinned)


def _ids(messages: list[Any]) -> list[bytes]:
    """Return the ids of messages, which stand alone with JUSTID and are the first of two elements otherwise."""
    return [message[0] if isinstance(message, list) else message for message in messages if message is not None]


def _parse_id(text: object) -> tuple[int, int] | None:
    """Return a stream id as two numbers, or None for another word; the sequence may be missing and is 0 then."""
    if not isinstance(text, bytes):
        return None
    milliseconds, _, sequence = text.partition(b"-")
    try:
        return int(milliseconds), int(sequence or b"0")
    except ValueError:
        return None


_OUTCOMES: dict[bytes, Callable[[Arguments, object], tuple[Arguments, ...]]] = {
    b"SPOP": _spop,
    b"INCRBYFLOAT": _incrbyfloat,
    b"HINCRBYFLOAT": _hincrbyfloat,
    b"XCLAIM": _xclaim,
    b"XAUTOCLAIM": _xautoclaim,
}
_NAMED = re.compile(rb"\r\n(?:%b)\r\n" % b"|".join(sorted(_OUTCOMES)), re.IGNORECASE)


def left_to_chance(payload: bytes) -> bool:
    """Tell whether encoded commands may hold one that is pinned from its outcome; true also of data that looks so."""
    return _NAMED.search(payload) is not None


#: Commands whose journal record is rewritten once their reply was seen.
OUTCOME_PINNED = frozenset(_OUTCOMES)
