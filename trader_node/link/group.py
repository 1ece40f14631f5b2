"""One transaction: the entries that travel together, and what each reply of Redis belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from . import wire
from .entries import Entry
from .marker import MarkerCommands

MULTI = wire.encode_command(b"MULTI")
EXEC = wire.encode_command(b"EXEC")


@dataclass(slots=True)
class Group:
    """The transaction in flight."""

    entries: list[Entry]
    last: int
    #: Entry of each command queued in the transaction, None for the link's own.
    owners: list[Entry | None]
    #: Entry to blame if a command of the link's own is refused: the one that a SELECT is for. By position.
    blamed: dict[int, Entry]
    #: Constant replies to MULTI and the queued commands.
    prefix: bytes
    #: Monotonic seconds.
    sent_at: float
    #: How many replies have come.
    received: int = 0
    #: EXEC was carried out.
    executed: bool = False
    #: Commands that Redis refused to queue: whom to blame (None: the link itself), and Redis' error.
    refusals: list[tuple[Entry | None, str]] = field(default_factory=list)

    def note_refusal(self, index: int, error: str) -> None:
        """Take note that the reply ``index`` (0 is MULTI's) is an error."""
        blamed = None if index == 0 else self.owners[index - 1] or self.blamed.get(index - 1)
        self.refusals.append((blamed, error))

    def own_error(self, results: list[bytes]) -> bytes | None:
        """Return the first error among the results of the link's own commands, or None."""
        return next(
            (
                result
                for owner, result in zip(self.owners, results, strict=True)
                if owner is None and wire.is_error(result)
            ),
            None,
        )

    def replies(self, results: list[bytes]) -> Iterator[tuple[Entry, list[bytes]]]:
        """Iterate over the entries that were carried out, each with the results of its commands."""
        by_entry: dict[int, list[bytes]] = {}
        for owner, result in zip(self.owners, results, strict=True):
            if owner is not None:
                by_entry.setdefault(owner.seq, []).append(result)
        return ((entry, by_entry[entry.seq]) for entry in self.entries if entry.seq in by_entry)


def build_group(
    waiting: Iterable[Entry], most_bytes: int, marker: MarkerCommands, owner: str, now: float
) -> tuple[Group, bytes]:
    """Put as many of the waiting entries into a transaction as ``most_bytes`` allows, at least one; return its bytes.

    ``waiting`` must not be empty.
    """
    parts = [MULTI]
    owners: list[Entry | None] = []
    entries: list[Entry] = []
    blamed: dict[int, Entry] = {}
    db = size = 0
    for entry in waiting:
        if entries and size + len(entry.payload) > most_bytes:
            break
        entries.append(entry)
        if entry.void:
            continue
        if entry.db != db:
            blamed[len(owners)] = entry
            parts.append(wire.encode_command(b"SELECT", entry.db))
            owners.append(None)
        parts.append(entry.payload)
        owners.extend([entry] * entry.commands)
        size += len(entry.payload)
        db = entry.end_db
    if db:
        # The marker is in database 0.
        blamed[len(owners)] = next(entry for entry in reversed(entries) if not entry.void)
        parts.append(wire.encode_command(b"SELECT", 0))
        owners.append(None)
    last = entries[-1].seq
    parts += [marker.set(owner, last), EXEC, marker.watch, marker.read]
    owners.append(None)
    return Group(entries, last, owners, blamed, wire.OK + wire.QUEUED * len(owners), now), b"".join(parts)
