"""The first look at a server: who is it, and what does it hold."""

from __future__ import annotations

from dataclasses import dataclass

from . import wire
from .group import EXEC, MULTI
from .marker import History, Marker, MarkerCommands, parse_marker
from .server_bounds import DEFAULT_SERVER_BOUNDS, ServerBounds

ROLE = wire.encode_command(b"ROLE")
_INFO = b"".join(wire.encode_command(b"INFO", section) for section in (b"server", b"replication", b"keyspace"))
#: Not part of the transaction, because an ACL may forbid it.
_SETTINGS = wire.encode_command(b"CONFIG", b"GET", b"databases", b"proto-max-bulk-len", b"client-query-buffer-limit")
_IDLE_TIME = (b"OBJECT", b"IDLETIME")
#: Replies to MULTI, five queued commands, EXEC, WATCH, HMGET, CONFIG GET.
IDENTITY_REPLIES = 10
_QUEUED = 5


class RefusedError(Exception):
    """The server answered with an error, which is the message."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A server at one moment."""

    master: bool
    history: History
    #: Keys in all databases.
    keys: int
    #: None if it changed between the look and the WATCH.
    marker: Marker | None
    #: Number of databases, or None where the server does not tell.
    databases: int | None
    bounds: ServerBounds
    #: Whole seconds since somebody used the marker; None if that was not asked or the server does not tell.
    idle: int | None = None


def question(marker: MarkerCommands, *, idle: bool = False) -> bytes:
    """Return the commands that ask; ``idle``: also since when nobody has used the marker, which is one reply more.

    In one transaction, or role, keys and marker may be those of different data sets. EXEC ends every WATCH, so the one
    that guards the takeover comes behind it, and the marker is read again.
    """
    # In front, because reading the marker is using it.
    before = wire.encode_command(*_IDLE_TIME, marker.key) if idle else b""
    return before + MULTI + ROLE + _INFO + marker.read + EXEC + marker.watch + marker.read + _SETTINGS


def parse_identity(replies: list[bytes], *, idle: bool = False) -> Identity:
    """Return what a server answered; ``RefusedError`` if it refused any part. Replies to AUTH may come first."""
    *before, executed, watched, watched_marker, told = replies
    idle_time = wire.decode(before.pop(-_QUEUED - 2)) if idle else None
    elements = [] if wire.is_error(executed) else wire.split_array(executed) or []
    for reply in [*before, executed, *elements, watched, watched_marker]:
        if wire.is_error(reply):
            raise RefusedError(wire.error_text(reply))
    settings = _settings(told)
    role, server, replication, keyspace, marker = elements
    return Identity(
        master=says_master(role),
        history=History(_info_field(server, "run_id"), _info_field(replication, "master_replid")),
        keys=_keys(keyspace),
        marker=decode_marker(marker) if marker == watched_marker else None,
        databases=settings.get(b"databases"),
        bounds=ServerBounds(
            settings.get(b"proto-max-bulk-len", DEFAULT_SERVER_BOUNDS.argument),
            settings.get(b"client-query-buffer-limit", DEFAULT_SERVER_BOUNDS.request),
        ),
        idle=idle_time if isinstance(idle_time, int) else None,
    )


def says_master(reply: bytes) -> bool:
    """Tell whether a reply to ROLE is that of a master."""
    role = wire.decode(reply)
    return isinstance(role, list) and role[:1] == [b"master"]


def decode_marker(reply: bytes) -> Marker:
    """Return the marker from a reply to HMGET."""
    fields = wire.decode(reply)
    if isinstance(fields, list) and len(fields) == 2:
        return parse_marker(*fields)
    return Marker("", None)


def _info_lines(reply: bytes) -> list[str]:
    info = wire.decode(reply)
    return info.decode(errors="replace").splitlines() if isinstance(info, bytes) else []


def _info_field(reply: bytes, name: str) -> str:
    for line in _info_lines(reply):
        field, _, value = line.partition(":")
        if field == name:
            return value
    return ""


def _keys(reply: bytes) -> int:
    """Return the number of keys in all databases, from INFO keyspace (``db0:keys=5,expires=0,...``)."""
    lines = (line for line in _info_lines(reply) if line.startswith("db"))
    counts = (line.partition(":keys=")[2].partition(",")[0] for line in lines)
    return sum(int(count) for count in counts if count.isdigit())


def _settings(reply: bytes) -> dict[bytes, int]:
    """Return those settings that the server tells."""
    told = None if wire.is_error(reply) else wire.decode(reply)
    flat = told if isinstance(told, list) else []
    pairs = zip(flat[::2], flat[1::2], strict=False)
    return {name: int(value) for name, value in pairs if isinstance(value, bytes) and value.isdigit()}
