"""The unit of the guarantee: one write, or one client transaction, with its place in the one sequence."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from .commands import certain_reply
from .wire import encode_command, encode_error, join_array, split_commands

#: Takes the whole reply, as the bytes a client expects.
ReplySink = Callable[[bytes], None]

LOST_REPLY = encode_error("UNKNOWN link: the command was applied exactly once, but its answer was lost at a failover")


class Form(enum.IntEnum):
    """How an entry's replies are shown to its client. The numbers are part of the journal's format."""

    #: One command: one reply.
    SINGLE = 0
    #: MULTI ... EXEC: an array of the commands' replies.
    TRANSACTION = 1
    #: Commands that a client sent in one go: as many replies, one after another.
    BATCH = 2


@dataclass(slots=True)
class Write:
    """What a client asks for, before it is accepted; the fields are those of :class:`Entry`."""

    payload: bytes
    commands: int
    form: Form = Form.SINGLE
    db: int = 0
    end_db: int = 0
    sink: ReplySink | None = None
    writes_only: bool = True


@dataclass(slots=True, eq=False)
class Entry:
    """A write with its sequence number.

    ``payload`` holds ``commands`` encoded commands one after another; it is emptied when Redis refused the entry for
    good, so that its sequence number stays taken and nothing is replayed. Of a batch only the
    refused commands are taken out. ``db`` is the database it begins in, ``end_db`` the one its own SELECTs leave it in.
    """

    seq: int
    db: int
    end_db: int
    form: Form
    commands: int
    payload: bytes
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
    #: Of an earlier run of the link: its client may have been told whatever is not known here.
    from_disk: bool = False
    #: Errors of commands that were left out of a batch, by their place among the client's commands.
    refused: dict[int, bytes] | None = None

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
        if self.form is Form.TRANSACTION:
            self._finish(join_array(replies))
        elif self.refused:
            self._finish(b"".join(self._with_refused(replies)))
        else:
            self._finish(b"".join(replies))

    def deliver_lost(self) -> None:
        """Tell the client of an entry that was applied while its answer was lost."""
        self._deliver_instead(LOST_REPLY)

    def deliver_journalled(self) -> None:
        """Tell the client that the entry is in the journal on disk and will be applied."""
        self.told_early = True
        self._deliver_instead(JOURNALLED_REPLY)

    def _deliver_instead(self, unknown: bytes) -> None:
        if self.sink is None:
            self.acknowledged = True
            return
        self.deliver([certain_reply(command) or unknown for command in split_commands(self.payload)])

    def refuse_command(self, position: int, error: bytes) -> None:
        """Leave out a command of a batch that Redis refuses to queue; its client gets ``error`` in its place.

        ``position`` counts the commands that the payload still holds.
        """
        commands = split_commands(self.payload)
        del commands[position]
        refused = self.refused or {}
        for place in sorted(refused):
            position += place <= position
        self.refused = {**refused, position: error}
        self.payload = b"".join(encode_command(*command) for command in commands)
        self.commands -= 1

    def _with_refused(self, replies: list[bytes]) -> list[bytes]:
        refused, left = self.refused or {}, iter(replies)
        return [refused[place] if place in refused else next(left) for place in range(len(replies) + len(refused))]

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

#: What an Entry costs in memory besides its payload, measured on 64 bits with CPython 3.13.
ENTRY_OVERHEAD_BYTES = 260
