"""SPOP: which members it removes is decided before it becomes an entry.

An entry has to do the same on every data set that it is ever run on, also on one where nobody sees the outcome. So the
link first asks for random members, and then submits an entry that removes just those. Whatever another client has
removed in between is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import wire
from .entries import LOST_REPLY, Form, ReplySink, Write
from .reads import Read
from .verdicts import Arguments

#: Members that are removed by one entry at most.
_MOST = 10_000


class RandomPop:
    """One SPOP under way. ``ask`` takes a read, ``submit`` a write."""

    def __init__(
        self,
        db: int,
        arguments: Arguments,
        ask: Callable[[Read], None],
        submit: Callable[[Write], None],
        sink: ReplySink,
    ) -> None:
        self._db = db
        self._key = arguments[1]
        #: How many are still wanted; None for the form without a count, whose reply is no array.
        self._left = int(arguments[2]) if len(arguments) == 3 else None
        self._removed: list[bytes] = []
        self._ask = ask
        self._submit = submit
        self._sink = sink

    def start(self) -> None:
        """Ask for members."""
        count = () if self._left is None else (min(self._left, _MOST),)
        self._ask(Read(self._db, wire.encode_command(b"SRANDMEMBER", self._key, *count), self._chosen))

    def _chosen(self, reply: bytes) -> None:
        found: Any = wire.decode(reply)
        if wire.is_error(reply):
            self._sink(reply)
        elif not found:
            self._finish()
        else:
            members: list[bytes] = found if isinstance(found, list) else [found]
            # One command each: its reply tells whether this client was the one that removed it.
            payload = b"".join(wire.encode_command(b"SREM", self._key, member) for member in members)
            self._submit(
                Write(
                    payload,
                    len(members),
                    Form.TRANSACTION,
                    db=self._db,
                    end_db=self._db,
                    sink=lambda reply: self._done(members, reply),
                    # Not to be answered from the journal: its client needs the data.
                    writes_only=False,
                )
            )

    def _done(self, members: list[bytes], reply: bytes) -> None:
        if wire.is_error(reply):
            self._sink(reply)
            return
        replies = wire.split_array(reply) or []
        if LOST_REPLY in replies:
            self._sink(LOST_REPLY)
            return
        error = next(filter(wire.is_error, replies), None)
        if error is not None:
            self._sink(error)
            return
        removed = [member for member, each in zip(members, replies, strict=True) if each == b":1\r\n"]
        self._removed += removed
        if self._left is None:
            if removed:
                self._finish()
            else:
                self.start()
            return
        self._left -= len(removed)
        if self._left:
            self.start()
        else:
            self._finish()

    def _finish(self) -> None:
        if self._left is not None:
            self._sink(wire.join_array([wire.encode_bulk(member) for member in self._removed]))
        else:
            self._sink(wire.encode_bulk(self._removed[0]) if self._removed else b"$-1\r\n")
