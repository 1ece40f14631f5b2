"""One transaction: the entries that travel together, and what each reply of Redis belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from . import wire
from .entries import Entry
from .marker import Commit

MULTI = wire.encode_command(b"MULTI")
EXEC = wire.encode_command(b"EXEC")


@dataclass(frozen=True, slots=True)
class CommandRefusal:
    """A command that Redis refused to queue."""

    #: Whom to blame: the entry, or None for the link itself.
    entry: Entry | None
    #: The command's place in the entry; None for a SELECT that the link adds for the entry.
    position: int | None
    #: Redis' error, without the leading minus.
    error: str


@dataclass(slots=True)
class Group:
    """The transaction in flight."""

    entries: list[Entry]
    last: int
    #: How many commands are queued in the transaction.
    queued: int
    #: Entry that each of the link's own commands is for (None: the marker), by position in the transaction.
    own: dict[int, Entry | None]
    #: Constant replies to MULTI and the queued commands.
    prefix: bytes
    #: All replies from that to the marker's HSET on, if the marker is what it should be.
    verified: bytes
    #: Monotonic seconds.
    sent_at: float
    #: How many replies have come.
    received: int = 0
    #: EXEC was carried out.
    executed: bool = False
    refusals: list[CommandRefusal] = field(default_factory=list)

    @property
    def plain(self) -> bool:
        """Whether the marker's HSET is the only command of the link's own."""
        return len(self.own) == 1

    def note_refusal(self, index: int, error: str) -> None:
        """Take note that the reply ``index`` (0 is MULTI's) is an error."""
        queued = index - 1
        if queued in self.own or index == 0:
            self.refusals.append(CommandRefusal(self.own.get(queued), None, error))
            return
        position = queued - sum(own < queued for own in self.own)
        for entry in self.entries:
            if position < entry.commands:
                self.refusals.append(CommandRefusal(entry, position, error))
                return
            position -= entry.commands

    def own_error(self, results: list[bytes]) -> bytes | None:
        """Return the first error among the results of the link's own commands, or None."""
        return next((results[index] for index in self.own if wire.is_error(results[index])), None)

    def replies(self, results: list[bytes]) -> Iterator[tuple[Entry, list[bytes]]]:
        """Iterate over the entries that were carried out, each with the results of its commands.

        ``results`` are those of all queued commands; the marker's, the last, may be missing.
        """
        if not self.plain:
            results = [result for index, result in enumerate(results) if index not in self.own]
        position = 0
        for entry in self.entries:
            if entry.commands:
                end = position + entry.commands
                yield entry, results[position:end]
                position = end


def build_group(waiting: Iterable[Entry], most_bytes: int, commit: Commit, now: float) -> tuple[Group, bytes]:
    """Put as many of the waiting entries into a transaction as ``most_bytes`` allows, at least one; return its bytes.

    ``waiting`` must not be empty.
    """
    parts = [MULTI]
    entries: list[Entry] = []
    own: dict[int, Entry | None] = {}
    queued = db = size = 0
    blamed = None
    for entry in waiting:
        if entries and size + len(entry.payload) > most_bytes:
            break
        entries.append(entry)
        if entry.void:
            continue
        if entry.db != db:
            own[queued] = entry
            queued += 1
            parts.append(wire.encode_command(b"SELECT", entry.db))
        parts.append(entry.payload)
        queued += entry.commands
        size += len(entry.payload)
        db, blamed = entry.end_db, entry
    if db:
        # The marker is in database 0.
        own[queued] = blamed
        queued += 1
        parts.append(wire.encode_command(b"SELECT", 0))
    own[queued] = None
    queued += 1
    last = entries[-1].seq
    ending, verified = commit.encode(last)
    parts.append(ending)
    group = Group(entries, last, queued, own, wire.OK + wire.QUEUED * queued, verified, now)
    return group, b"".join(parts)
