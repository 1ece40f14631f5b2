"""Reads: one connection to the current master, shared by all clients, answered in order, asked again when it breaks.

The shell opens it only while the sequencer has caught up, so that a read never sees a master that still lacks a write
that some client was told of.
"""

from __future__ import annotations

import enum
import re
from collections import deque
from dataclasses import dataclass, field

from . import wire
from .decisions import Decision, Reconnect
from .entries import ReplySink
from .errors import Blame, blame

#: How Redis 7 words the errors that it gives before it carries anything out, and to a script's first write. A script
#: may answer with the same codes in words of its own, after it has changed data. Valkey puts its own name.
_NOT_CARRIED_OUT = re.compile(
    r"READONLY (You can't write against|You can not|Can not run script)|MASTERDOWN Link with MASTER is down|"
    r"LOADING \w+ is loading the dataset|BUSY \w+ is busy running|NOREPLICAS Not enough good replicas|"
    r"MISCONF (\w+ is configured to|Errors writing to the AOF)"
)
_LOST = wire.encode_error("UNKNOWN link: the answer was lost at a failover; the command may have been applied")


@dataclass(slots=True, eq=False)
class Read:
    """A command that changes no data, or one that is sent once and never again."""

    db: int
    payload: bytes
    sink: ReplySink | None
    #: Asking twice does no harm; false for PUBLISH and for what is carried out at most once.
    repeatable: bool = True
    #: It runs a script, whose error may have any code that its author chose.
    scripted: bool = False
    #: The server has said that it did not carry it out, so that it may be sent again all the same.
    refused: bool = False
    #: How many commands ``payload`` holds: as many replies, one after another.
    commands: int = 1
    #: The replies that have come so far.
    replies: list[bytes] = field(default_factory=list)


class _Own(enum.Enum):
    """A request of the link's own."""

    #: AUTH or ROLE.
    HANDSHAKE = "handshake"
    SELECT = "select"


class Reader:
    """State of the read connection."""

    def __init__(self, auth: bytes = b"") -> None:
        #: The command that logs in, or nothing; to be set anew for a connection whose password is another one.
        self.auth = auth
        self._queue: deque[Read] = deque()
        #: Requests on the wire: a Read, or the link's own.
        self._wire: deque[Read | _Own] = deque()
        self._framer = wire.ReplyFramer()
        self._db = 0
        #: Why the database of the reads under way could not be selected: then they ran in another one.
        self._select_error = b""
        self._connected = False
        self._checked = False
        self._oldest_sent_at: float | None = None

    def __len__(self) -> int:
        """Return how many reads wait for an answer."""
        return len(self._queue) + len(self._wire)

    def waiting_since(self) -> float | None:
        """Return since when (monotonic seconds) nothing was answered though something was asked, or None."""
        return self._oldest_sent_at if self._wire else None

    def submit(self, read: Read) -> None:
        """Take a read of a client."""
        self._queue.append(read)

    def connected(self, now: float) -> bytes:
        """Begin on a new connection; return the bytes to send. Reads follow when the node has said it is a master."""
        self._framer = wire.ReplyFramer()
        self._db = 0
        self._select_error = b""
        self._connected, self._checked = True, False
        self._oldest_sent_at = now
        self._wire.extend([_Own.HANDSHAKE] * (1 + bool(self.auth)))
        return self.auth + wire.encode_command(b"ROLE")

    def disconnected(self) -> None:
        """Keep what was asked and not answered, to ask again."""
        self._connected = False
        unanswered = [read for read in self._wire if isinstance(read, Read)]
        self._wire.clear()
        self._oldest_sent_at = None
        for read in reversed(unanswered):
            read.replies.clear()
            if read.repeatable or read.refused:
                read.refused = False
                self._queue.appendleft(read)
            else:
                _answer(read, _LOST)

    def next_requests(self, now: float) -> bytes:
        """Return everything that can be asked now."""
        if not self._checked or not self._queue:
            return b""
        if not self._wire:
            self._oldest_sent_at = now
        parts = []
        while self._queue:
            read = self._queue.popleft()
            if read.sink is None and read.repeatable:
                continue
            if read.db != self._db:
                parts.append(wire.encode_command(b"SELECT", read.db))
                self._wire.append(_Own.SELECT)
                self._db = read.db
            parts.append(read.payload)
            self._wire.append(read)
        return b"".join(parts)

    def receive(self, data: bytes, now: float) -> Decision | None:
        """Take bytes from the master; answers go to the clients, a decision to the shell."""
        self._framer.feed(data)
        self._oldest_sent_at = now
        try:
            while (reply := self._framer.next()) is not None:
                decision = self._answered(reply)
                if decision is not None:
                    return decision
        except wire.ProtocolError as error:
            return Reconnect(f"the server does not speak RESP2: {error}", rediscover=True)
        return None

    def _answered(self, reply: bytes) -> Decision | None:
        if not self._wire:
            return Reconnect("the server answered what nobody asked")
        read = self._wire[0]
        if wire.is_error(reply):
            text = wire.error_text(reply)
            if read is _Own.HANDSHAKE or _blames_the_node(read, text):
                # The read stays first in line and is asked again on the next connection.
                if isinstance(read, Read):
                    read.refused = True
                return Reconnect(text, rediscover=blame(text) is Blame.ROLE, delay=0.05)
            if read is _Own.SELECT:
                # Belongs to the clients that read there; asking again would hold up all the others for ever.
                self._select_error = reply
        elif read is _Own.SELECT:
            self._select_error = b""
        elif read is _Own.HANDSHAKE and reply != wire.OK:
            role = wire.decode(reply)
            if not isinstance(role, list) or role[0] != b"master":
                return Reconnect("the node is not a master", rediscover=True, delay=0.05)
            self._checked = True
        if not isinstance(read, Read):
            self._wire.popleft()
            return None
        read.replies.append(self._select_error or reply)
        if len(read.replies) == read.commands:
            self._wire.popleft()
            _answer(read, b"".join(read.replies))
        return None


def _blames_the_node(read: Read | _Own, text: str) -> bool:
    """Tell whether an error says nothing about what was asked, which was not carried out, and is asked again."""
    if blame(text) is Blame.COMMAND:
        return False
    if isinstance(read, Read) and (read.scripted or not read.repeatable):
        return _NOT_CARRIED_OUT.match(text) is not None
    return True


def _answer(read: Read, reply: bytes) -> None:
    sink, read.sink = read.sink, None
    if sink is not None:
        sink(reply)
