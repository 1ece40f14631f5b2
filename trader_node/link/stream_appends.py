"""``XADD *`` where the link's clock is behind the stream: its last id is learned, and the message gets one behind it.

Redis itself gives a message at least the id behind the stream's last. The link's ids follow its own clock, which may
have been set back since, or somebody else may have added messages. Such an entry is answered with an error and has
changed nothing, now and whenever it is replayed, so that the message may be submitted once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from . import wire
from .entries import ReplySink, Write
from .pins import StreamIds, pin, xadd_id
from .reads import Read
from .verdicts import Arguments

_TOO_SMALL = b"-ERR The ID specified in XADD is equal or smaller than the target stream top item"
#: Submissions of one message: others may go on adding theirs meanwhile, with a clock that is ahead.
_ATTEMPTS = 4
_ID = re.compile(rb"([0-9]{1,20})-([0-9]{1,20})")
_XADD = (b"XADD", b"xadd")


class Hub(Protocol):
    """What an append needs of the link."""

    stream_ids: StreamIds

    def wall_clock_ms(self) -> int:
        """Return Unix time in milliseconds."""

    def submit_write(self, write: Write) -> None:
        """Accept a write."""

    def submit_read(self, read: Read) -> None:
        """Take a read."""


class StreamAppend:
    """One ``XADD *`` under way.

    ``hold`` keeps back what its client sends next, and tells whether nothing that it has sent is behind the message
    already: else the message would come too late, and the error is told.
    """

    def __init__(self, hub: Hub, db: int, arguments: Arguments, hold: Callable[[], bool], sink: ReplySink) -> None:
        self._hub = hub
        self._db = db
        self._arguments = arguments
        self._hold = hold
        self._sink = sink
        self._attempts = 0

    def submit(self, pinned: Arguments) -> None:
        """Submit the message with the id that it was given."""
        self._attempts += 1
        payload = wire.encode_command(*pinned)
        self._hub.submit_write(Write(payload, 1, db=self._db, end_db=self._db, sink=self._done))

    def _done(self, reply: bytes) -> None:
        if not reply.startswith(_TOO_SMALL):
            self._sink(reply)
            return
        again = self._attempts < _ATTEMPTS and self._hold()
        learn(self._hub, [(self._db, self._arguments[1])], lambda: self._again() if again else self._sink(reply))

    def _again(self) -> None:
        self.submit(pin(self._arguments, self._hub.wall_clock_ms(), self._hub.stream_ids))


def takes_id(arguments: Arguments) -> bool:
    """Tell whether a command of a client is an XADD that the link gives the id."""
    return arguments[0].upper() == b"XADD" and xadd_id(arguments) == b"*"


def learning(hub: Hub, db: int, commands: Iterable[Arguments], sink: ReplySink) -> ReplySink:
    """Return what takes the reply to a transaction: if an id was too small, it is told, and the next will not be.

    ``commands`` are those of the client.
    """
    streams = []
    for command in commands:
        if command[0] == b"SELECT":
            db = int(command[1])
        elif takes_id(command):
            streams.append((db, command[1]))
    if not streams:
        return sink

    def deliver(reply: bytes) -> None:
        if _TOO_SMALL in reply:
            learn(hub, list(dict.fromkeys(streams)), lambda: sink(reply))
        else:
            sink(reply)

    return deliver


def learn(hub: Hub, streams: list[tuple[int, bytes]], then: Callable[[], None]) -> None:
    """Ask for the last ids of streams (database and key), and go on."""
    if not streams:
        then()
        return
    (db, key), rest = streams[0], streams[1:]

    def answered(reply: bytes) -> None:
        if not wire.is_error(reply):
            flat: Any = wire.decode(reply)
            fields = dict(zip(flat[::2], flat[1::2], strict=False))
            _remember(hub.stream_ids, key, fields.get(b"last-generated-id", b""))
        learn(hub, rest, then)

    hub.submit_read(Read(db, wire.encode_command(b"XINFO", b"STREAM", key), answered))


def _remember(stream_ids: StreamIds, key: bytes, text: bytes) -> int:
    """Take the id of a message; return its milliseconds, 0 if it is none."""
    match = _ID.fullmatch(text)
    if match is None:
        return 0
    stream_ids.learn(key, (int(match[1]), int(match[2])))
    return int(match[1])


def seed(stream_ids: StreamIds, payloads: Iterable[bytes], now_ms: int) -> None:
    """Take ids that earlier runs gave, while the clock was ahead of ``now_ms``.

    ``payloads`` are those of the journal, the newest first. The first that holds no such id ends the search.
    """
    for payload in payloads:
        if not any(name in payload for name in _XADD):
            continue
        appends = [command for command in wire.split_commands(payload) if command[0].upper() == b"XADD"]
        if appends and all(_remember(stream_ids, each[1], xadd_id(each)) <= now_ms for each in appends):
            return
