"""The journal on disk: a folder of append-only segments, locked against a second link.

A segment begins with a magic and is named after the first sequence number in it. Only the last one may end in a torn
record (a crash while writing); damage anywhere else is an error, because entries behind it would be lost silently.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path

from .entries import Entry
from .journal import (
    MAGIC,
    Journal,
    JournalError,
    decode_records,
    encode_applied,
    encode_entries,
    encode_replaced,
    encode_skip,
    encode_void,
    record_behind,
)
from .state import LinkState

_SUFFIX = ".journal"
_STATE_FILE = "link.json"
_LOCK_FILE = "lock"


class Fsync(enum.Enum):
    """When the journal is forced to the disk; the same words as Redis' ``appendfsync``."""

    NEVER = "never"
    EVERYSEC = "everysec"
    ALWAYS = "always"


class JournalFile:
    """An open journal folder.

    Raises ``JournalError`` from :meth:`open` if the folder is not usable, is in use by another link, or is damaged.
    """

    def __init__(self, folder: Path, *, fsync: Fsync, segment_bytes: int, marker_key: str = "") -> None:
        self._folder = folder
        self._marker_key = marker_key
        self._fsync = fsync
        self._segment_bytes = segment_bytes
        self._segments: list[tuple[int, Path]] = []
        self._written_bytes = 0
        #: Whether half a record may stand behind ``_written_bytes``.
        self._torn = False
        self._next_seq = 1
        self._descriptor = -1
        self._lock_descriptor = -1
        self._pending: list[bytes] = []
        #: Entries behind them.
        self._entries: list[Entry] = []
        #: Up to where clients may know, if that is not on disk yet.
        self._applied: int | None = None
        # Held while the descriptor changes hands; never while the disk is waited for.
        self._descriptor_lock = threading.Lock()
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._flusher: threading.Thread | None = None
        self.state = LinkState()
        self.torn_bytes = 0
        self.sync_error: OSError | None = None

    def open(self) -> Journal:
        """Lock the folder, read what is there, cut a torn tail, and get ready to append."""
        try:
            journal = self._open()
        except BaseException:
            if self._lock_descriptor >= 0:
                os.close(self._lock_descriptor)
            raise
        if self._fsync is Fsync.EVERYSEC:
            self._flusher = threading.Thread(target=self._flush_every_second, name="journal-fsync", daemon=True)
            self._flusher.start()
        return journal

    def _open(self) -> Journal:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._load_state()
            journal = self._load_segments()
            if not self._segments:
                self._start_segment(journal.last_seq + 1)
            else:
                self._open_last_segment()
            self._next_seq = journal.last_seq + 1
        except OSError as error:
            raise JournalError(
                f"journal folder {self._folder}: {error.strerror or error}: give the link a folder it may write"
            ) from error
        return journal

    def save_state(self) -> None:
        """Write the identity to disk, whole or not at all."""
        temporary = self._folder / (_STATE_FILE + ".new")
        with temporary.open("w") as file:
            json.dump(asdict(self.state), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / _STATE_FILE)
        self._sync_folder()

    def append(self, entry: Entry) -> None:
        """Remember to write an entry; :meth:`flush` writes."""
        self._next_seq = entry.seq + 1
        self._entries.append(entry)

    def append_skip(self, seq: int) -> None:
        """Remember to write that the entries up to ``seq`` are in the data set and lost from the journal."""
        self._next_seq = seq + 1
        self._append(encode_skip(seq))

    def append_void(self, seq: int) -> None:
        """Remember to write that an entry was refused for good."""
        self._append(encode_void(seq))

    def append_replaced(self, entry: Entry) -> None:
        """Remember to write what is left of a batch of which commands were refused for good."""
        self._append(encode_replaced(entry))

    def append_applied(self, seq: int) -> None:
        """Remember to write that clients may know of the entries up to ``seq``."""
        self._applied = seq

    def _append(self, record: bytes) -> None:
        self._encode_entries()
        self._pending.append(record)

    def _encode_entries(self) -> None:
        if self._entries:
            self._pending.append(encode_entries(self._entries))
            self._entries.clear()

    def flush(self, next_seq: int, *, everything: bool = True) -> None:
        """Write what was appended, and force it to disk with ``Fsync.ALWAYS``.

        Without ``everything``, what only says that entries were applied may wait for company: nothing depends on it
        before the next start, and a write for each answer of Redis would cost as much as the one for the entries.
        ``next_seq`` names a new segment if one is due. An ``OSError`` (a full disk) leaves the journal as it was
        before the call, so that the same bytes are written when it is called again.
        """
        self._encode_entries()
        if self._applied is not None and (self._pending or everything):
            self._pending.append(encode_applied(self._applied))
            self._applied = None
        if not self._pending:
            return
        if self._torn:
            self._cut()
        data = b"".join(self._pending)
        self._torn = True
        try:
            _write_all(self._descriptor, data)
            if self._fsync is Fsync.ALWAYS:
                os.fdatasync(self._descriptor)
        except OSError:
            # After a failed sync too: the kernel may have dropped the pages, so only writing again makes them safe.
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._torn = False
        self._pending.clear()
        self._written_bytes += len(data)
        if self._fsync is Fsync.EVERYSEC:
            self._dirty.set()
        if self._written_bytes >= self._segment_bytes:
            self._start_segment(next_seq)

    def _cut(self) -> None:
        """Cut what an interrupted write left, or the next record would follow half of one."""
        os.ftruncate(self._descriptor, self._written_bytes)
        self._torn = False

    def trim(self, first_seq: int) -> None:
        """Delete the segments that hold nothing from ``first_seq`` on."""
        while len(self._segments) > 1 and self._segments[1][0] <= first_seq:
            self._segments.pop(0)[1].unlink(missing_ok=True)

    def close(self) -> None:
        """Force everything to disk and give up the lock."""
        self._closing.set()
        self._dirty.set()
        if self._flusher is not None:
            self._flusher.join()
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)

    def _lock(self) -> None:
        self._lock_descriptor = os.open(self._folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(
                f"journal folder {self._folder} is in use by another link: one link per trader id; "
                "stop the other one or give this one a folder of its own"
            ) from error

    def _load_state(self) -> None:
        path = self._folder / _STATE_FILE
        if path.exists():
            try:
                self.state = LinkState(**json.loads(path.read_text()))
            except (ValueError, TypeError) as error:
                raise JournalError(f"{path} is damaged ({error}): restore it, or move the folder away") from error
        elif any(self._folder.glob("*" + _SUFFIX)):
            raise JournalError(f"{path} is missing beside journal segments: restore it, or move the folder away")
        else:
            self.state = LinkState()
        if self.state.marker_key and self._marker_key and self.state.marker_key != self._marker_key:
            raise JournalError(
                f"journal folder {self._folder} belongs to the marker {self.state.marker_key}, not to "
                f"{self._marker_key}: its entries would be applied twice; give each id (LINK_ID, TRADER_ID) a folder "
                "of its own"
            )
        self.state.marker_key = self._marker_key or self.state.marker_key
        self.state.incarnation += 1
        self.save_state()

    def _load_segments(self) -> Journal:
        paths = sorted(self._folder.glob("*" + _SUFFIX))
        for path in paths:
            if not path.stem.isdecimal():
                raise JournalError(f"{path} is not a journal segment: move it out of the folder")
        self._segments = sorted((int(path.stem), path) for path in paths)
        journal = Journal(self._segments[0][0] if self._segments else 1)
        for number, (_, path) in enumerate(self._segments):
            last = number == len(self._segments) - 1
            # All its entries count as old as the youngest: when it was written to last.
            written_at = time.monotonic() - max(time.time() - path.stat().st_mtime, 0.0)
            data = path.read_bytes()
            if not data.startswith(MAGIC):
                if not last or len(data) > len(MAGIC):
                    raise JournalError(f"{path} is not a journal segment: restore it, or move the folder away")
                data = MAGIC
                path.write_bytes(data)
            try:
                decoded = decode_records(data, len(MAGIC))
            except JournalError as error:
                raise JournalError(f"{path}: {error}") from error
            self.torn_bytes = len(data) - decoded.valid_bytes
            if self.torn_bytes:
                if not last or record_behind(data, decoded.valid_bytes):
                    raise JournalError(
                        f"{path} is damaged at byte {decoded.valid_bytes}: entries behind it may be missing in Redis; "
                        "restore the file, or move the folder away to go on without them"
                    )
                os.truncate(path, decoded.valid_bytes)
            for record in decoded.records:
                if isinstance(record, Entry):
                    record.accepted_at = written_at
                try:
                    journal.take(record)
                except JournalError as error:
                    raise JournalError(
                        f"{path}: {error}: a segment before it is missing; restore it, or move the folder away to go "
                        "on without its entries"
                    ) from error
        return journal

    def _open_last_segment(self) -> None:
        path = self._segments[-1][1]
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._written_bytes = path.stat().st_size

    def _start_segment(self, first_seq: int) -> None:
        if self._segments and self._segments[-1][0] == first_seq:
            return
        path = self._folder / f"{first_seq:020d}{_SUFFIX}"
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, MAGIC)
            self._sync_folder()
        except OSError:
            # A file without its magic would make the next start refuse the folder.
            os.close(descriptor)
            path.unlink()
            raise
        with self._descriptor_lock:
            previous, self._descriptor = self._descriptor, descriptor
        if previous >= 0:
            os.close(previous)
        self._written_bytes = len(MAGIC)
        self._segments.append((first_seq, path))

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _flush_every_second(self) -> None:
        while not self._closing.wait(1.0):
            if self._dirty.is_set():
                self._dirty.clear()
                with self._descriptor_lock:
                    descriptor = os.dup(self._descriptor)
                try:
                    os.fdatasync(descriptor)
                    self.sync_error = None
                except OSError as error:
                    self.sync_error = error
                finally:
                    os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
