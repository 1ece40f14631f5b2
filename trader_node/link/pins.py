"""Commands that are pinned when they are accepted, so that replaying them later means the same.

Relative expiries become absolute, ``XADD *`` gets its id, and approximate trimming becomes exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .verdicts import Arguments
from .wire import OK, PONG

#: Streams that are remembered to be ahead of the clock.
_MOST_AHEAD = 10_000


class StreamIds:
    """Stream entry ids that only grow, for ``XADD *``.

    Redis would take the id from its own clock at the time a command runs, so a replay would store the same message
    under another id.
    """

    __slots__ = ("_ahead", "_last")

    def __init__(self) -> None:
        self._last = (0, 0)
        #: Last ids of streams that are ahead of the clock, by key. Of databases the greatest counts.
        self._ahead: dict[bytes, tuple[int, int]] = {}

    def next(self, now_ms: int, stream: bytes = b"") -> bytes:
        """Return an id for the time ``now_ms`` (Unix milliseconds), greater than all before it."""
        last_ms, last_seq = self._last
        self._last = (now_ms, 0) if now_ms > last_ms else (last_ms, last_seq + 1)
        ahead = self._ahead.get(stream)
        if ahead is None:
            return b"%d-%d" % self._last
        if ahead < self._last:
            del self._ahead[stream]
            return b"%d-%d" % self._last
        self._ahead[stream] = ahead[0], ahead[1] + 1
        return b"%d-%d" % self._ahead[stream]

    def learn(self, stream: bytes, last: tuple[int, int]) -> None:
        """Take note of a stream's last id: those that follow are greater."""
        if len(self._ahead) >= _MOST_AHEAD:
            # They are learned again.
            self._ahead.clear()
        self._ahead[stream] = max(last, self._ahead.get(stream, last))


Pin = Callable[[Arguments, int, StreamIds], Arguments]


def has_option(arguments: Arguments, option: bytes, start: int) -> bool:
    """Tell whether a word stands anywhere behind ``start``."""
    return any(argument.upper() == option for argument in arguments[start:])


#: What Redis takes as an integer (``string2ll``); ``int`` would also take ``+1``, ``01``, `` 1`` and ``1_0``.
INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


def _absolute(text: bytes, unit_ms: int, now_ms: int) -> bytes | None:
    """Return a relative expiry as Unix milliseconds, or None if Redis will refuse the number anyway."""
    if not INTEGER.fullmatch(text):
        return None
    deadline = now_ms + int(text) * unit_ms
    return b"%d" % deadline if 0 < deadline < 1 << 62 else None


_EXPIRY_OPTIONS = {b"EX": 1000, b"PX": 1}


def _pin_options(arguments: Arguments, start: int, now_ms: int) -> Arguments:
    """Replace ``EX seconds`` and ``PX milliseconds`` behind ``start`` by ``PXAT``; leave invalid ones to Redis."""
    for index in range(start, len(arguments) - 1):
        unit_ms = _EXPIRY_OPTIONS.get(arguments[index].upper())
        if unit_ms is None:
            continue
        text = arguments[index + 1]
        deadline = _absolute(text, unit_ms, now_ms)
        # Zero and negative numbers are an error with EX but mean "delete" with PXAT.
        if deadline is None or int(text) <= 0:
            return arguments
        return (*arguments[:index], b"PXAT", deadline, *arguments[index + 2 :])
    return arguments


def _pin_set(arguments: Arguments, now_ms: int, _: StreamIds) -> Arguments:
    return arguments if len(arguments) == 3 else _pin_options(arguments, 3, now_ms)


def _pin_getex(arguments: Arguments, now_ms: int, _: StreamIds) -> Arguments:
    return _pin_options(arguments, 2, now_ms)


def _setex_pin(unit_ms: int) -> Pin:
    def pin(arguments: Arguments, now_ms: int, _: StreamIds) -> Arguments:
        if len(arguments) == 4:
            deadline = _absolute(arguments[2], unit_ms, now_ms)
            if deadline is not None and int(arguments[2]) > 0:
                return (b"SET", arguments[1], arguments[3], b"PXAT", deadline)
        return arguments

    return pin


def _expire_pin(name: bytes, unit_ms: int) -> Pin:
    def pin(arguments: Arguments, now_ms: int, _: StreamIds) -> Arguments:
        if len(arguments) >= 3:
            deadline = _absolute(arguments[2], unit_ms, now_ms)
            if deadline is not None:
                return (name, arguments[1], deadline, *arguments[3:])
        return arguments

    return pin


def _pin_restore(arguments: Arguments, now_ms: int, _: StreamIds) -> Arguments:
    if len(arguments) >= 4 and arguments[2] != b"0" and not has_option(arguments, b"ABSTTL", 4):
        deadline = _absolute(arguments[2], 1, now_ms)
        if deadline is not None and int(arguments[2]) > 0:
            return (*arguments[:2], deadline, *arguments[3:], b"ABSTTL")
    return arguments


def _exact_trimming(arguments: Arguments, index: int) -> tuple[Arguments, int]:
    """Replace ``~`` of a MAXLEN or MINID at ``index`` by ``=``, and drop the LIMIT that goes with it.

    Approximate trimming removes whole nodes of the stream, and where a node ends differs between servers: by their
    settings, and by the way each came to its data. Exact trimming keeps the promise of ``~`` (at least so many stay).
    Returns the arguments and the index behind the clause.
    """
    if arguments[index + 1 : index + 2] != (b"~",):
        return arguments, index + 2 + (arguments[index + 1 : index + 2] == (b"=",))
    if len(arguments) == index + 2:
        return arguments, index + 2  # for Redis to refuse
    limited = arguments[index + 3 : index + 4]
    end = index + 3
    if limited and limited[0].upper() == b"LIMIT":
        limit = arguments[index + 4 : index + 5]
        if not limit or not INTEGER.fullmatch(limit[0]) or int(limit[0]) < 0:
            return arguments, index + 5  # for Redis to refuse
        end = index + 5
    return (*arguments[: index + 1], b"=", *arguments[index + 2 : index + 3], *arguments[end:]), index + 3


def _exact_xadd(arguments: Arguments) -> tuple[Arguments, int]:
    """Make the trimming of an XADD exact; return the index of its id, too."""
    # XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|id field value [field value ...]
    index = 2
    while index < len(arguments):
        option = arguments[index].upper()
        if option == b"NOMKSTREAM":
            index += 1
        elif option in (b"MAXLEN", b"MINID"):
            arguments, index = _exact_trimming(arguments, index)
        elif option == b"LIMIT":
            index += 2
        else:
            break
    return arguments, index


def xadd_id(arguments: Arguments) -> bytes:
    """Return the id in an XADD, nothing if there is none."""
    arguments, index = _exact_xadd(arguments)
    return arguments[index] if index < len(arguments) else b""


def _pin_xadd(arguments: Arguments, now_ms: int, stream_ids: StreamIds) -> Arguments:
    # "ms-*" needs no pin: Redis takes its sequence from the stream's last id.
    arguments, index = _exact_xadd(arguments)
    if index < len(arguments) and arguments[index] == b"*":
        arguments = (*arguments[:index], stream_ids.next(now_ms, arguments[1]), *arguments[index + 1 :])
    return arguments


def _pin_xtrim(arguments: Arguments, _now_ms: int, _: StreamIds) -> Arguments:
    # XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT count]
    return _exact_trimming(arguments, 2)[0]


def _pin_xclaim(arguments: Arguments, now_ms: int, _: StreamIds) -> Arguments:
    # XCLAIM key group consumer min-idle id [id ...] [IDLE ms] ...: no id is spelled IDLE.
    for index in range(5, len(arguments) - 1):
        if arguments[index].upper() == b"IDLE" and INTEGER.fullmatch(arguments[index + 1]):
            delivered = now_ms - int(arguments[index + 1])
            return (*arguments[:index], b"TIME", b"%d" % max(delivered, 0), *arguments[index + 2 :])
    return arguments


PINS: dict[bytes, Pin] = {
    b"SET": _pin_set,
    b"GETEX": _pin_getex,
    b"SETEX": _setex_pin(1000),
    b"PSETEX": _setex_pin(1),
    b"EXPIRE": _expire_pin(b"PEXPIREAT", 1000),
    b"PEXPIRE": _expire_pin(b"PEXPIREAT", 1),
    b"HEXPIRE": _expire_pin(b"HPEXPIREAT", 1000),
    b"HPEXPIRE": _expire_pin(b"HPEXPIREAT", 1),
    b"RESTORE": _pin_restore,
    b"XADD": _pin_xadd,
    b"XTRIM": _pin_xtrim,
    b"XCLAIM": _pin_xclaim,
}


def pin(arguments: Arguments, now_ms: int, stream_ids: StreamIds) -> Arguments:
    """Return a write as it means the same whenever it is carried out; ``now_ms`` is the time that it counts from."""
    pinning = PINS.get(arguments[0].upper())
    return arguments if pinning is None else pinning(arguments, now_ms, stream_ids)


def certain_reply(arguments: Arguments) -> bytes:
    """Return the only possible reply to a write that was applied, or nothing if it depends on the data.

    Mistakes that Redis finds only when it runs a command (a number, the count of arguments) leave it open, too.
    """
    name = arguments[0].upper()
    certain = False
    if name == b"SET":
        certain = len(arguments) == 3 or (
            len(arguments) == 5 and arguments[3].upper() in (b"PXAT", b"EXAT") and _positive(arguments[4])
        )
    elif name == b"MSET":
        certain = len(arguments) >= 3 and len(arguments) % 2 == 1
    elif name in (b"FLUSHALL", b"FLUSHDB"):
        certain = len(arguments) == 1 or (len(arguments) == 2 and arguments[1].upper() in (b"ASYNC", b"SYNC"))
    elif name == b"SELECT":
        # Checked when it was queued.
        certain = True
    elif name == b"PING" and len(arguments) == 1:
        return PONG
    return OK if certain else b""


def _positive(text: bytes) -> bool:
    # As seconds, Redis multiplies it by 1000.
    return INTEGER.fullmatch(text) is not None and 0 < int(text) < 1 << 52


def spop_error(arguments: Arguments) -> str:
    """Return what Redis would say of a malformed SPOP, or nothing."""
    if len(arguments) < 2:
        return "ERR wrong number of arguments for 'spop' command"
    if len(arguments) > 3:
        return "ERR syntax error"
    if len(arguments) == 3 and (not INTEGER.fullmatch(arguments[2]) or arguments[2].startswith(b"-")):
        return "ERR value is out of range, must be positive"
    return ""
