"""XREAD BLOCK of one client, on a connection of its own: asked again after a failover, with the same ids.

``$`` stands for the last id at the moment of asking. It is looked up once, or what arrived between two connections
would be missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from . import wire
from .blocking import Blocking, ids_of, with_ids
from .entries import ReplySink
from .errors import Blame, blame
from .pubsub import OpenSide
from .reads import Read
from .side import Side

#: Seconds that Redis may be late with the nil of a wait that is over.
_GRACE = 0.2
_NONE = b"0-0"


class StreamReader:
    """The blocking reads of one client, one at a time."""

    def __init__(
        self,
        open_side: OpenSide,
        ask: Callable[[Read], None],
        call_later: Callable[[float, Callable[[], None]], Callable[[], None]],
    ) -> None:
        self._open_side = open_side
        self._ask = ask
        self._call_later = call_later
        self._side: Side | None = None
        self._db = 0
        self._blocking: Blocking | None = None
        self._ids: list[bytes] = []
        self._unresolved = 0
        self._deadline = 0.0
        self._sink: ReplySink | None = None
        #: The reply to SELECT is still due.
        self._selecting = False
        self._cancel_timer: Callable[[], None] | None = None

    def read(self, db: int, blocking: Blocking, sink: ReplySink) -> None:
        """Wait for data; ``sink`` gets the reply, the nil array when the time is up."""
        self._db, self._blocking, self._sink = db, blocking, sink
        self._ids = list(ids_of(blocking))
        timeout = blocking.timeout or 0.0
        self._deadline = time.monotonic() + timeout if timeout else 0.0
        if timeout:
            self._cancel_timer = self._call_later(timeout + _GRACE, self.cancel)
        last = [index for index, each in enumerate(self._ids) if each == b"$"]
        self._unresolved = len(last)
        for index in last:
            request = wire.encode_command(b"XREVRANGE", blocking.keys[index], b"+", b"-", b"COUNT", b"1")
            self._ask(Read(db, request, partial(self._resolved, blocking, index)))
        if not last:
            self._begin()

    def cancel(self) -> None:
        """End the wait: its time is up though no master has said so, or the client is gone."""
        self.close()
        self._finish(wire.NIL_ARRAY)

    def close(self) -> None:
        """Give up the connection."""
        if self._side is not None:
            self._side.close()
            self._side = None

    def _resolved(self, blocking: Blocking, index: int, reply: bytes) -> None:
        if blocking is not self._blocking:
            return  # its time was up before
        # An error (WRONGTYPE) comes again with the read itself.
        entries: Any = [] if wire.is_error(reply) else wire.decode(reply)
        self._ids[index] = entries[0][0] if entries else _NONE
        self._unresolved -= 1
        if not self._unresolved:
            self._begin()

    def _begin(self) -> None:
        if self._side is None:
            self._side = self._open_side(self._request, self._receive)
        else:
            self._side.send(self._request())

    def _request(self) -> bytes:
        if self._blocking is None or self._unresolved:
            return b""
        left = max(round((self._deadline - time.monotonic()) * 1000), 1) if self._deadline else 0
        self._selecting = True
        return wire.encode_command(b"SELECT", self._db) + wire.encode_command(
            *with_ids(self._blocking, tuple(self._ids), left)
        )

    def _receive(self, reply: bytes) -> None:
        if wire.is_error(reply):
            text = wire.error_text(reply)
            if text.startswith("UNBLOCKED") or blame(text) is not Blame.COMMAND:
                if self._side is not None:
                    self._side.restart(text)
                return
            if self._selecting:
                self.close()
        elif self._selecting:
            self._selecting = False
            return
        self._finish(reply)

    def _finish(self, reply: bytes) -> None:
        sink, self._sink, self._blocking = self._sink, None, None
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None
        if sink is not None:
            sink(reply)
