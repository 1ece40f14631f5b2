"""Clients that wait for data: blocking commands that write.

A client that waits has asked once (``blocking`` tells why that does not block) and got nothing. It asks again

- behind every write of this link that names one of its keys, in the same sequence: so it is as quick as in Redis;
- when a look from time to time shows that somebody else has put something there.

Clients that wait for the same key are served in the order in which they came: only the first of them asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import wire
from .blocking import Blocking
from .entries import ReplySink, Write
from .reads import Read

_NOTHING = (wire.NIL_ARRAY, b"$-1\r\n")
#: Database, type, key, consumer group.
_Spot = tuple[int, bytes, bytes, bytes]


@dataclass(eq=False)
class Waiter:
    """A client that waits."""

    db: int
    blocking: Blocking
    sink: ReplySink
    #: Its command is under way.
    asking: bool = False
    #: Something was written behind the command under way.
    stale: bool = False
    #: It waits no longer: its time is up, or it is gone.
    over: bool = False
    cancel_timer: Callable[[], None] | None = None

    @property
    def spots(self) -> list[_Spot]:
        """What it waits for."""
        return [(self.db, self.blocking.kind, key, self.blocking.group) for key in self.blocking.keys]


class WaitingRoom:
    """Everybody who waits.

    ``accept`` takes an entry without telling the waiting room of it; ``ask`` takes a read; ``call_later`` calls a
    function after some seconds and returns what cancels it. While ``ready`` says no, nobody asks: by the time of an
    answer the client may be gone, and an element would be taken for nobody; ``look`` makes up for it.
    """

    def __init__(
        self,
        accept: Callable[[Write], None],
        ask: Callable[[Read], None],
        call_later: Callable[[float, Callable[[], None]], Callable[[], None]],
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._accept = accept
        self._ask = ask
        self._call_later = call_later
        self._ready = ready
        self._spots: dict[_Spot, deque[Waiter]] = {}
        #: The spots of each key, to be found from what is written.
        self._of_key: dict[bytes, list[_Spot]] = {}
        #: Keys with a line break in them, which no argument of a payload is found by.
        self._odd_keys: set[bytes] = set()
        #: Where a look is under way.
        self._looks: set[_Spot] = set()

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._spots)

    def wait(self, db: int, blocking: Blocking, sink: ReplySink) -> Waiter:
        """Take a client; ``sink`` gets the reply, the nil array if its time is up."""
        waiter = Waiter(db, blocking, sink)
        for spot in waiter.spots:
            if spot not in self._spots:
                self._spots[spot] = deque()
                self._of_key.setdefault(spot[2], []).append(spot)
                if wire.CRLF in spot[2]:
                    self._odd_keys.add(spot[2])
            line = self._spots[spot]
            if waiter not in line:
                line.append(waiter)
        if blocking.timeout is None:
            # For Redis to refuse, whoever else waits.
            self._submit(waiter, blocking.keys)
            return waiter
        if blocking.timeout:
            waiter.cancel_timer = self._call_later(blocking.timeout, lambda: self.cancel(waiter))
        self._try(waiter)
        return waiter

    def cancel(self, waiter: Waiter) -> None:
        """End a client's wait: its time is up, or it is gone. What is under way for it is waited for."""
        waiter.over = True
        if not waiter.asking:
            self._finish(waiter, wire.NIL_ARRAY)

    def wrote(self, payload: bytes) -> None:
        """Take note of an entry that was accepted."""
        # By its arguments, whatever they mean: to ask in vain costs little, and to search the payload for each key that
        # somebody waits for would cost every write more with every one who waits.
        named = self._of_key.keys() & payload.split(wire.CRLF)
        named |= {key for key in self._odd_keys if key in payload}
        for key in named:
            for spot in list(self._of_key.get(key, ())):
                self._wake(spot)

    def look(self) -> None:
        """See whether somebody else has written what the first in each line waits for."""
        for spot, line in list(self._spots.items()):
            if not line[0].asking and spot not in self._looks:
                self._looks.add(spot)
                _Look(spot, self._ask, self._saw).start()

    def _saw(self, spot: _Spot, something: bool) -> None:
        self._looks.discard(spot)
        if something:
            self._wake(spot)

    def _wake(self, spot: _Spot) -> None:
        line = self._spots.get(spot)
        if line:
            if line[0].asking:
                line[0].stale = True
            else:
                self._try(line[0])

    def _try(self, waiter: Waiter) -> None:
        first = [spot[2] for spot in waiter.spots if self._spots[spot][0] is waiter]
        if first and self._ready():
            self._submit(waiter, first)

    def _submit(self, waiter: Waiter, keys: Any) -> None:
        waiter.asking, waiter.stale = True, False
        payload = wire.encode_command(*waiter.blocking.narrowed(keys))
        # Not to be answered from the journal: its client needs the data.
        self._accept(
            Write(
                payload,
                1,
                db=waiter.db,
                end_db=waiter.db,
                sink=lambda reply: self._answered(waiter, reply),
                writes_only=False,
            )
        )

    def _answered(self, waiter: Waiter, reply: bytes) -> None:
        waiter.asking = False
        if reply in _NOTHING:
            if waiter.over:
                self._finish(waiter, wire.NIL_ARRAY)
            elif waiter.stale:
                self._try(waiter)
            return
        self._finish(waiter, reply)
        destination = waiter.blocking.destination
        if destination is not None:
            self._wake((waiter.db, b"list", destination, b""))

    def _finish(self, waiter: Waiter, reply: bytes) -> None:
        self._leave(waiter)
        waiter.sink(reply)

    def _leave(self, waiter: Waiter) -> None:
        if waiter.cancel_timer is not None:
            waiter.cancel_timer()
        for spot in waiter.spots:
            line = self._spots.get(spot)
            if line is None or waiter not in line:
                continue
            was_first = line[0] is waiter
            line.remove(waiter)
            if not line:
                del self._spots[spot]
                self._of_key[spot[2]].remove(spot)
                if not self._of_key[spot[2]]:
                    del self._of_key[spot[2]]
                    self._odd_keys.discard(spot[2])
            elif was_first:
                # There may be more where its data came from.
                self._wake(spot)


class _Look:
    """Reads that tell whether there is anything in a spot."""

    def __init__(
        self,
        spot: _Spot,
        ask: Callable[[Read], None],
        report: Callable[[_Spot, bool], None],
    ) -> None:
        self._spot = spot
        self._ask = ask
        self._report = report

    def start(self) -> None:
        """Ask for the type of the key, or how far its consumer group has come."""
        if self._spot[1] == b"stream":
            self._send(self._groups, b"XINFO", b"GROUPS", self._spot[2])
        else:
            self._send(self._type, b"TYPE", self._spot[2])

    def _send(self, sink: ReplySink, *arguments: bytes) -> None:
        self._ask(Read(self._spot[0], wire.encode_command(*arguments), sink))

    def _say(self, something: bool) -> None:
        self._report(self._spot, something)

    def _type(self, reply: bytes) -> None:
        self._say(reply == b"+" + self._spot[1] + wire.CRLF)

    def _groups(self, reply: bytes) -> None:
        delivered = None if wire.is_error(reply) else _last_delivered(reply, self._spot[3])
        if delivered is None:
            # Without key or group Redis answers at once that there is none.
            self._say(True)
        else:
            self._send(self._range, b"XRANGE", self._spot[2], b"(" + delivered, b"+", b"COUNT", b"1")

    def _range(self, reply: bytes) -> None:
        self._say(reply != wire.EMPTY_ARRAY)


def _last_delivered(reply: bytes, group: bytes) -> bytes | None:
    groups: Any = wire.decode(reply)
    for flat in groups:
        fields = dict(zip(flat[::2], flat[1::2], strict=False))
        if fields.get(b"name") == group:
            delivered: bytes = fields[b"last-delivered-id"]
            return delivered
    return None
