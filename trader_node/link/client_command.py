"""CLIENT: about connections to the link, which are not connections to Redis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from . import wire
from .verdicts import Arguments


class Connection(Protocol):
    """A client's connection, as CLIENT tells of it."""

    name: bytes
    address: bytes
    last_command: bytes

    @property
    def client_id(self) -> int:
        """Its number."""

    @property
    def db(self) -> int:
        """The database that is selected."""

    @property
    def subscriptions(self) -> tuple[int, int, int]:
        """How many channels, patterns and shard channels are subscribed to."""

    @property
    def queued(self) -> int:
        """How many commands are in the transaction, -1 without one."""

    def kill(self) -> None:
        """End it."""


#: They change nothing here: answered with OK, so that clients that always send them can go on.
_HARMLESS = (b"SETINFO", b"NO-EVICT", b"NO-TOUCH")
_NAME_BYTES = range(ord("!"), ord("~") + 1)


def answer(asking: Connection, arguments: Arguments, connections: Iterable[Connection]) -> bytes:
    """Carry out CLIENT for the connection ``asking``; return the reply."""
    action = arguments[1].upper() if len(arguments) > 1 else b""
    rest = arguments[2:]
    match action:
        case b"SETNAME" if len(rest) == 1:
            if any(byte not in _NAME_BYTES for byte in rest[0]):
                return wire.encode_error("ERR Client names cannot contain spaces, newlines or special characters.")
            asking.name = rest[0]
            return wire.OK
        case b"GETNAME":
            return wire.encode_bulk(asking.name) if asking.name else b"$-1\r\n"
        case b"ID":
            return wire.encode_integer(asking.client_id)
        case b"INFO":
            return wire.encode_bulk(_line(asking))
        case b"LIST":
            return wire.encode_bulk(b"".join(map(_line, _filtered(connections, rest))))
        case b"KILL" if rest:
            return _kill(asking, rest, list(connections))
        case b"REPLY" if rest and rest[0].upper() == b"ON":
            return wire.OK
        case _ if action in _HARMLESS:
            return wire.OK
    shown = action[:32].decode(errors="replace")
    return wire.encode_error(f"ERR link: CLIENT {shown} is not available: connections end at the link")


def _filtered(connections: Iterable[Connection], rest: Arguments) -> list[Connection]:
    if len(rest) > 1 and rest[0].upper() == b"ID":
        wanted = set(rest[1:])
        return [each for each in connections if b"%d" % each.client_id in wanted]
    return list(connections)


def _kill(asking: Connection, rest: Arguments, connections: list[Connection]) -> bytes:
    if len(rest) == 1:
        found = [each for each in connections if each.address == rest[0]]
        if not found:
            return wire.encode_error("ERR No such client")
        found[0].kill()
        return wire.OK
    if len(rest) % 2:
        return wire.encode_error("ERR syntax error")
    spare_own = True
    found = connections
    for option, value in zip(rest[::2], rest[1::2], strict=True):
        match option.upper():
            case b"ID":
                found = [each for each in found if b"%d" % each.client_id == value]
            case b"ADDR":
                found = [each for each in found if each.address == value]
            case b"SKIPME":
                spare_own = value.lower() != b"no"
            case _:
                shown = option[:32].decode(errors="replace")
                return wire.encode_error(f"ERR link: CLIENT KILL knows ID, ADDR and SKIPME here, not {shown}")
    found = [each for each in found if not (spare_own and each is asking)]
    for each in found:
        each.kill()
    return wire.encode_integer(len(found))


def _line(connection: Connection) -> bytes:
    channels, patterns, sharded = connection.subscriptions
    return b"id=%d addr=%b name=%b db=%d sub=%d psub=%d ssub=%d multi=%d cmd=%b user=default resp=2\n" % (
        connection.client_id,
        connection.address,
        connection.name,
        connection.db,
        channels,
        patterns,
        sharded,
        connection.queued,
        connection.last_command.lower() or b"NULL",
    )
