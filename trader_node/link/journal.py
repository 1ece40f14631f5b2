"""The window of entries that may have to be replayed, and the format of their records on disk.

Entries stay until every known replica has them and they are old enough (``Sequencer.trim``): a promoted replica that
lags, or a master restarted from an older AOF, then finds in here whatever it misses.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from .entries import ENTRY_OVERHEAD_BYTES, Entry, Form

MAGIC = b"RLJ1"
#: CRC-32 of everything behind it; length of the body in bytes.
_HEAD = struct.Struct("<II")
#: Kind of record, form, database before and after, number of commands, sequence number.
_BODY = struct.Struct("<BBHHIQ")
#: In a record of many entries, of each: form, database before and after, number of commands, length of the payload.
_ITEM = struct.Struct("<BHHII")
_KIND_ENTRY, _KIND_VOID, _KIND_APPLIED, _KIND_SKIP, _KIND_REPLACED, _KIND_ENTRIES = 1, 2, 3, 4, 5, 6


class JournalError(RuntimeError):
    """The journal cannot be used; the message says which file, why, and what to do."""


class Journal:
    """Entries ``first_seq`` to ``last_seq`` in order, without gaps."""

    __slots__ = ("_entries", "_forgotten", "_known_up_to", "first_seq", "last_seq", "size_bytes")

    def __init__(self, first_seq: int = 1) -> None:
        # A list, because any part of it has to be reached at once however long it is. Its first ``_forgotten`` places
        # are trimmed ones: they are cut off when they are the greater part.
        self._entries: list[Entry | None] = []
        self._forgotten = 0
        self.first_seq = first_seq
        #: The highest sequence number given out; ``first_seq - 1`` if none is kept.
        self.last_seq = first_seq - 1
        self.size_bytes = 0
        self._known_up_to = 0

    def __len__(self) -> int:
        """Return the number of entries kept."""
        return len(self._entries) - self._forgotten

    def append(self, entry: Entry) -> None:
        """Take the next entry; its number must follow on the last."""
        if entry.seq != self.last_seq + 1:
            raise JournalError(f"entry {entry.seq} does not follow {self.last_seq}")
        self._entries.append(entry)
        self.last_seq = entry.seq
        self.size_bytes += len(entry.payload) + ENTRY_OVERHEAD_BYTES

    def entry(self, seq: int) -> Entry:
        """Return the entry with a number between ``first_seq`` and ``last_seq``."""
        entry = self._entries[self._forgotten + seq - self.first_seq]
        assert entry is not None
        return entry

    def range(self, first: int, last: int) -> list[Entry]:
        """Return the entries ``first`` to ``last``, both included."""
        begin = self._forgotten + max(first - self.first_seq, 0)
        end = self._forgotten + max(last - self.first_seq + 1, 0)
        return cast("list[Entry]", self._entries[begin:end])

    def make_void(self, entry: Entry) -> None:
        """Keep the number of an entry that Redis refused for good, but nothing to apply."""
        self.size_bytes -= entry.size
        entry.make_void()
        self.size_bytes += entry.size

    def refuse_command(self, entry: Entry, position: int, error: bytes) -> None:
        """Leave one command out of a batch that Redis refused to queue."""
        self.size_bytes -= entry.size
        entry.refuse_command(position, error)
        self.size_bytes += entry.size

    def take(self, record: Record) -> None:
        """Take a record as read from disk. Of an entry without an AppliedRecord behind it, nobody knows who knows."""
        match record:
            case VoidRecord(seq):
                if seq >= self.first_seq:
                    entry = self.entry(seq)
                    self.make_void(entry)
                    # Its client was told; an entry that nobody acknowledges would be kept, with all behind it.
                    entry.acknowledged = True
            case ReplacedRecord(seq, commands, payload):
                if seq >= self.first_seq:
                    entry = self.entry(seq)
                    self.size_bytes -= entry.size
                    entry.commands, entry.payload = commands, payload
                    self.size_bytes += entry.size
            case SkipRecord(seq):
                self.skip_to(seq)
                self._known_up_to = seq
            case AppliedRecord(seq):
                for entry in self.range(max(self._known_up_to + 1, self.first_seq), seq):
                    entry.acknowledged = True
                self._known_up_to = seq
            case Entry():
                # Whether its client was told is not always on disk: it may have been.
                record.from_disk = True
                self.append(record)

    def trim(self, up_to: int) -> int:
        """Forget the entries up to and including ``up_to``; return how many were forgotten."""
        gone = self.range(self.first_seq, up_to)
        self.size_bytes -= sum(entry.size for entry in gone)
        self.first_seq += len(gone)
        begin, self._forgotten = self._forgotten, self._forgotten + len(gone)
        self._entries[begin : self._forgotten] = [None] * len(gone)
        if self._forgotten * 2 >= len(self._entries):
            del self._entries[: self._forgotten]
            self._forgotten = 0
        return len(gone)

    def end_of_oldest(self, size: int) -> int:
        """Return the number of the last of the oldest entries that count ``size`` bytes together, or a little more."""
        for entry in self.range(self.first_seq, self.last_seq):
            size -= entry.size
            if size <= 0:
                return entry.seq
        return self.last_seq

    def skip_to(self, seq: int) -> None:
        """Begin anew behind ``seq``; for a data set that is ahead of a journal which lost its tail."""
        self.trim(self.last_seq)
        self.first_seq, self.last_seq = seq + 1, seq


def encode_entry(entry: Entry) -> bytes:
    """Return an entry as a checksummed record."""
    return _record(
        _BODY.pack(_KIND_ENTRY, entry.form, entry.db, entry.end_db, entry.commands, entry.seq) + entry.payload
    )


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """Return consecutive entries as one checksummed record: cheaper than one for each."""
    if len(entries) == 1:
        return encode_entry(entries[0])
    parts = [_BODY.pack(_KIND_ENTRIES, 0, 0, 0, len(entries), entries[0].seq)]
    pack = _ITEM.pack
    parts += [pack(entry.form, entry.db, entry.end_db, entry.commands, len(entry.payload)) for entry in entries]
    parts += [entry.payload for entry in entries]
    return _record(b"".join(parts))


def encode_replaced(entry: Entry) -> bytes:
    """Return the record that says what is left of a batch of which Redis refused commands for good."""
    return _record(
        _BODY.pack(_KIND_REPLACED, entry.form, entry.db, entry.end_db, entry.commands, entry.seq) + entry.payload
    )


def encode_void(seq: int) -> bytes:
    """Return the record that makes entry ``seq`` void: Redis refused it for good."""
    return _record(_BODY.pack(_KIND_VOID, 0, 0, 0, 0, seq))


def encode_applied(seq: int) -> bytes:
    """Return the record that says that clients may know of the entries up to ``seq``."""
    return _record(_BODY.pack(_KIND_APPLIED, 0, 0, 0, 0, seq))


def encode_skip(seq: int) -> bytes:
    """Return the record that says that numbering goes on behind ``seq``, because the tail of the journal was lost."""
    return _record(_BODY.pack(_KIND_SKIP, 0, 0, 0, 0, seq))


def _record(body: bytes) -> bytes:
    length = struct.pack("<I", len(body))
    return struct.pack("<I", zlib.crc32(length + body)) + length + body


@dataclass(frozen=True, slots=True)
class VoidRecord:
    """Entry ``seq``, journalled earlier, was refused by Redis for good."""

    seq: int


@dataclass(frozen=True, slots=True)
class ReplacedRecord:
    """Of entry ``seq``, a batch journalled earlier, only these commands are left."""

    seq: int
    commands: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class AppliedRecord:
    """The entries up to ``seq`` were applied, and clients may know of it."""

    seq: int


@dataclass(frozen=True, slots=True)
class SkipRecord:
    """The next entry follows on ``seq``: the entries between are in the data set and were lost from the journal."""

    seq: int


Record = Entry | VoidRecord | ReplacedRecord | AppliedRecord | SkipRecord


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a segment of the journal held: its records, and how many of its bytes were whole records."""

    records: list[Record]
    valid_bytes: int


def decode_records(data: bytes, start: int) -> Decoded:
    """Decode records from ``start`` up to the first that is torn or damaged.

    Raises
    ------
    JournalError
        If a whole record is of a kind that only a newer version writes.

    """
    records: list[Record] = []
    position = start
    while (end := _record_end(data, position)) is not None:
        records += _decode(data, position, end)
        position = end
    return Decoded(records, position)


def record_behind(data: bytes, position: int) -> bool:
    """Tell whether a whole record begins anywhere behind ``position``.

    A crash tears the end of what was written last, so nothing whole follows; behind damage, records do.
    """
    first_body = position + 1 + _HEAD.size
    candidates = _BODY_BEGIN.finditer(data, first_body)
    return any(_record_end(data, match.start() - _HEAD.size) is not None for match in candidates)


#: Kind and form, in a position where a body may begin; looked ahead at, because candidates overlap.
_BODY_BEGIN = re.compile(rb"(?=[\x01-\x06][\x00-\x02])", re.DOTALL)


def _record_end(data: bytes, position: int) -> int | None:
    if position + _HEAD.size > len(data):
        return None
    checksum, length = _HEAD.unpack_from(data, position)
    end: int = position + _HEAD.size + length
    if length < _BODY.size or end > len(data) or zlib.crc32(memoryview(data)[position + 4 : end]) != checksum:
        return None
    return end


def _decode(data: bytes, position: int, end: int) -> list[Record]:
    kind, count, seq = _KIND_AND_COUNT.unpack_from(data, position + _HEAD.size)
    if kind != _KIND_ENTRIES:
        return [_decode_one(data, position, end)]
    item = position + _HEAD.size + _BODY.size
    payload = item + count * _ITEM.size
    entries: list[Record] = []
    for number in range(seq, seq + count):
        form, db, end_db, commands, length = _ITEM.unpack_from(data, item)
        entries.append(Entry(number, db, end_db, Form(form), commands, data[payload : payload + length]))
        item, payload = item + _ITEM.size, payload + length
    return entries


#: Of a body.
_KIND_AND_COUNT = struct.Struct("<B5xIQ")


def _decode_one(data: bytes, position: int, end: int) -> Record:
    kind, form, db, end_db, commands, seq = _BODY.unpack_from(data, position + _HEAD.size)
    if kind == _KIND_ENTRY:
        payload = data[position + _HEAD.size + _BODY.size : end]
        return Entry(seq, db, end_db, Form(form), commands, payload)
    if kind == _KIND_VOID:
        return VoidRecord(seq)
    if kind == _KIND_REPLACED:
        return ReplacedRecord(seq, commands, data[position + _HEAD.size + _BODY.size : end])
    if kind == _KIND_APPLIED:
        return AppliedRecord(seq)
    if kind == _KIND_SKIP:
        return SkipRecord(seq)
    raise JournalError(f"record of unknown kind {kind}: a newer version wrote it; run that version")
