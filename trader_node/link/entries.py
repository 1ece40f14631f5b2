"""The unit of the guarantee: one write, or one client transaction, with its place in the one sequence."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from .wire import encode_error, join_array

#: Takes the whole reply, as the bytes a client expects.
ReplySink = Callable[[bytes], None]

LOST_REPLY = encode_error("UNKNOWN link: the command was applied exactly once, but its answer was lost at a failover")


class Form(enum.IntEnum):
    """How an entry's replies are shown to its client. The numbers are part of the journal's format."""

    #: One command: one reply.
    SINGLE = 0
    #: MULTI ... EXEC: an array of the commands' replies.
    TRANSACTION = 1


@dataclass(frozen=True, slots=True)
class Write:
    """What a client asks for, before it is accepted; the fields are those of :class:`Entry`."""

    payload: bytes
    commands: int
    form: Form = Form.SINGLE
    db: int = 0
    end_db: int = 0
    certain_replies: tuple[bytes, ...] = ()
    sink: ReplySink | None = None
    writes_only: bool = True


@dataclass(slots=True, eq=False)
class Entry:
    """A write with its sequence number.

    ``payload`` holds ``commands`` encoded commands one after another; it is emptied when Redis refused the entry for
    good, so that its sequence number stays taken and nothing is replayed. ``db`` is the database it begins in,
    ``end_db`` the one its own SELECTs leave it in.
    """

    seq: int
    db: int
    end_db: int
    form: Form
    commands: int
    payload: bytes
    #: Reply of each command if it can be told without asking Redis; empty bytes where it cannot.
    certain_replies: tuple[bytes, ...] = ()
    #: Gone (None) once the reply is delivered, or if the client is gone or from before a restart.
    sink: ReplySink | None = None
    #: The client may have seen the reply: from then on the entry must be in the data set for good.
    acknowledged: bool = False
    #: Only writes: its client may be answered from the journal while there is no master.
    writes_only: bool = True
    #: The client was answered from the journal, before the entry was applied.
    told_early: bool = False
    #: Monotonic time of acceptance, in seconds.
    accepted_at: float = 0.0

    @property
    def void(self) -> bool:
        """Whether Redis refused the entry for good, so that nothing is left to apply."""
        return self.commands == 0

    @property
    def size(self) -> int:
        """What the entry counts against the journal's bound, in bytes."""
        return len(self.payload) + ENTRY_OVERHEAD_BYTES

    def deliver(self, replies: list[bytes]) -> None:
        """Give the client the replies of the entry's commands, once."""
        self._finish(replies[0] if self.form is Form.SINGLE else join_array(replies))

    def deliver_lost(self) -> None:
        """Tell the client of an entry that was applied while its answer was lost."""
        if self.sink is None:
            self.acknowledged = True
            return
        replies = [reply or LOST_REPLY for reply in self.certain_replies] or [LOST_REPLY] * self.commands
        self.deliver(replies)

    def deliver_journalled(self) -> None:
        """Tell the client that the entry is in the journal on disk and will be applied."""
        self.told_early = True
        self.deliver([reply or JOURNALLED_REPLY for reply in self.certain_replies])

    def make_void(self) -> None:
        """Leave nothing to apply: Redis will never take the entry."""
        self.commands = 0
        self.payload = b""

    def refuse(self, error: bytes) -> None:
        """Tell the client why Redis refused the entry."""
        self._finish(error)

    def _finish(self, reply: bytes) -> None:
        sink, self.sink = self.sink, None
        self.acknowledged = True
        if sink is not None:
            sink(reply)


JOURNALLED_REPLY = b"+JOURNALLED\r\n"

#: About what an Entry object costs besides its payload.
ENTRY_OVERHEAD_BYTES = 160
