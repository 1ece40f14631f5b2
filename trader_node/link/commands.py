"""What each command is to the link.

The sets of ``tables`` follow the command flags of Redis 7.0 to 7.4. A command that is in none of them is refused:
guessing wrong would lose or double a write. A write is one of these:

- exact as it is: what it does depends on its arguments and the data alone, and so replaying it does the same;
- pinned when it is accepted, in MULTI when EXEC is (``pins``): relative expiries, ``XADD *``, approximate trimming;
- decided before it becomes an entry: SPOP, whose members the link asks for first (``random_pops``);
- refused, with the reason, or carried out at most once if the user's settings allow it (``allowance``).

Known limits. A key that had not expired when a command first ran may have expired when it is replayed; the command then
finds no key. How long messages of consumer groups have been idle counts from a replay. Nodes are expected to have
processors of the same kind where a command computes with floating point (INCRBYFLOAT, ZINCRBY, GEO commands).
"""

from __future__ import annotations

from collections.abc import Iterable

from .allowance import Allowance
from .blocking import BLOCKING_WRITES, ids_of, parse_blocking, parse_stream_read
from .pins import PINS, StreamIds, certain_reply, has_option, pin, spop_error
from .scripts import SCRIPT_COMMANDS, classify_script
from .tables import LOCAL, MESSAGES, READS, REASONS, UNKNOWN, WRITES
from .verdicts import Arguments, Kind, Verdict, refused

_TIES = (
    "with BY and ALPHA, Redis stores elements that compare equal in an order that differs between nodes; leave out "
    "ALPHA, or allow SORT in LINK_AT_MOST_ONCE"
)
_IDLE = (
    "what it claims depends on how long messages have been idle, and so on the time it runs; use 0 as min-idle-time, "
    "or allow it in LINK_AT_MOST_ONCE"
)
_CLAIMS = frozenset([b"XCLAIM", b"XAUTOCLAIM"])
_DEFAULT = Allowance()


def classify(arguments: Arguments, now_ms: int, stream_ids: StreamIds, allowance: Allowance = _DEFAULT) -> Verdict:
    """Decide on one command of a client.

    ``now_ms`` is the wall clock in Unix milliseconds: relative expiries become absolute against it.
    """
    name = arguments[0].upper()
    if name in allowance.at_most_once:
        return _once(name, arguments, allowance)
    if name in WRITES:
        return _write(name, arguments, now_ms, stream_ids)
    if name in READS:
        if name == b"XREAD":
            blocking = parse_stream_read(arguments)
            if blocking is not None and blocking.timeout is not None:
                return Verdict(Kind.BLOCKING_READ, arguments)
        return Verdict(Kind.READ, arguments)
    if name in LOCAL:
        return Verdict(Kind.LOCAL, arguments)
    if name in BLOCKING_WRITES:
        return Verdict(Kind.WRITE if parse_blocking(arguments) is None else Kind.BLOCKING_WRITE, arguments)
    if name in SCRIPT_COMMANDS:
        return classify_script(arguments, allowance.scripts, allowance.store)
    if name == b"CONFIG" and len(arguments) > 1 and arguments[1].upper() == b"GET":
        return Verdict(Kind.READ, arguments)
    return refused(name, REASONS.get(name, UNKNOWN))


def _write(name: bytes, arguments: Arguments, now_ms: int, stream_ids: StreamIds) -> Verdict:
    if name in _READ_WITHOUT_STORE and not _stores(name, arguments):
        return Verdict(Kind.READ, arguments)
    if name == b"SORT" and has_option(arguments, b"BY", 2) and has_option(arguments, b"ALPHA", 2):
        return refused(name, _TIES)
    if name == b"SPOP":
        error = spop_error(arguments)
        return Verdict(Kind.REFUSED, reason=error) if error else Verdict(Kind.RANDOM_POP, arguments)
    if name in _CLAIMS and not _claims_all(arguments):
        return refused(name, _IDLE)
    if name == b"XREADGROUP" and _waits(arguments):
        return Verdict(Kind.BLOCKING_WRITE, arguments)
    return Verdict(Kind.WRITE, pin(arguments, now_ms, stream_ids))


_READ_WITHOUT_STORE = frozenset([b"SORT", b"GEORADIUS", b"GEORADIUSBYMEMBER"])


def _stores(name: bytes, arguments: Arguments) -> bool:
    # A pattern, unit or key that is spelled like the option makes it a write, which is the safe side.
    return has_option(arguments, b"STORE", 2) or (name != b"SORT" and has_option(arguments, b"STOREDIST", 2))


def _claims_all(arguments: Arguments) -> bool:
    """Tell whether XCLAIM or XAUTOCLAIM claims messages however long they have been idle."""
    return len(arguments) < 5 or arguments[4] == b"0"


def _waits(arguments: Arguments) -> bool:
    """Tell whether XREADGROUP may wait: it does so only for new messages, never for those delivered before."""
    blocking = parse_stream_read(arguments)
    return blocking is not None and all(each == b">" for each in ids_of(blocking))


def _once(name: bytes, arguments: Arguments, allowance: Allowance) -> Verdict:
    if name in SCRIPT_COMMANDS:
        verdict = classify_script(arguments, allowance.scripts.AT_MOST_ONCE, allowance.store)
        return verdict if verdict.kind is Kind.REFUSED else Verdict(Kind.ONCE, verdict.arguments)
    if name == b"XREADGROUP" and _waits(arguments):
        # On the read connection it would hold up all clients.
        return refused(name, "it blocks, which LINK_AT_MOST_ONCE does not allow; leave out BLOCK")
    return Verdict(Kind.ONCE, arguments)


def _spellings(names: Iterable[bytes]) -> frozenset[bytes]:
    """Return the names in upper and in lower case, as clients write them."""
    return frozenset(spelling for name in names for spelling in (name, name.lower()))


#: Reads and writes that are what they are whatever their arguments say, and that are sent as they came.
_PLAIN_READS = _spellings(READS - MESSAGES - {b"XREAD"})
_PLAIN_WRITES = _spellings(WRITES - PINS.keys() - _CLAIMS - _READ_WITHOUT_STORE - {b"SPOP", b"XREADGROUP"})
_SET = _spellings([b"SET"])


_PLAIN = {**dict.fromkeys(_PLAIN_READS, Kind.READ), **dict.fromkeys(_PLAIN_WRITES, Kind.WRITE)}


def _plain_kind(command: list[bytes], allowance: Allowance) -> Kind | None:
    name = command[0]
    kind = Kind.WRITE if name in _SET and len(command) == 3 else _PLAIN.get(name)
    if kind is Kind.WRITE and allowance.at_most_once and name.upper() in allowance.at_most_once:
        return None
    return kind


def common_kind(commands: list[list[bytes]], allowance: Allowance = _DEFAULT) -> Kind | None:
    """Return the kind of many commands at once if they are all plain reads or all plain writes, or None.

    A quick look for the hot path: None says nothing but that each has to be classified by itself.
    """
    # RESP3 maps and sets come as other types, and what they hold may spell anything.
    if any(type(command) is not list for command in commands):
        return None
    if len(commands) == 1:
        return _plain_kind(commands[0], allowance)
    names = {command[0] for command in commands}
    if names <= _PLAIN_READS:
        return Kind.READ
    if not names <= _PLAIN_WRITES and not (
        names - _SET <= _PLAIN_WRITES and all(len(command) == 3 for command in commands if command[0] in _SET)
    ):
        return None
    if allowance.at_most_once and any(name.upper() in allowance.at_most_once for name in names):
        return None
    return Kind.WRITE


__all__ = [
    "Allowance",
    "Arguments",
    "Kind",
    "StreamIds",
    "Verdict",
    "certain_reply",
    "classify",
    "common_kind",
]
