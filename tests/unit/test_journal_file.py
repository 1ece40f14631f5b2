"""The journal's folder: what a crash, a full disk, damage and a second link do to it."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trader_node.link.entries import Entry, Form
from trader_node.link.journal import MAGIC, Journal, JournalError
from trader_node.link.journal_file import Fsync, JournalFile

BIG = 1 << 20


def entry(seq: int, payload: bytes = b"payload") -> Entry:
    return Entry(seq, 0, 0, Form.SINGLE, 1, payload)


class Folder:
    """A folder in which links come and go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: JournalFile | None = None

    def open(self, *, fsync: Fsync = Fsync.NEVER, segment_bytes: int = BIG) -> tuple[JournalFile, Journal]:
        file = JournalFile(self.path, fsync=fsync, segment_bytes=segment_bytes)
        journal = file.open()
        self.file = file
        return file, journal

    def crash(self) -> None:
        """End as SIGKILL does: what was not flushed is gone, and so is the lock."""
        assert self.file is not None
        os.close(self.file._lock_descriptor)
        os.close(self.file._descriptor)
        self.file = None

    def write(self, *records: Entry, **options: int) -> None:
        """Run a link that accepts these entries, each in a write of its own, and crashes."""
        file, _ = self.open(**options)  # type: ignore[arg-type]
        for record in records:
            file.append(record)
            file.flush(record.seq + 1)
        self.crash()

    def read(self) -> list[tuple[int, bytes]]:
        """Return what a new link finds, and end it."""
        _, journal = self.open()
        self.crash()
        return [(each.seq, each.payload) for each in journal.range(journal.first_seq, journal.last_seq)]

    @property
    def segments(self) -> list[Path]:
        return sorted(self.path.glob("*.journal"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path / "journal")
    yield folder
    if folder.file is not None:
        folder.crash()


def seqs(first: int, last: int) -> list[tuple[int, bytes]]:
    return [(seq, b"payload") for seq in range(first, last + 1)]


# --- reopening -------------------------------------------------------------------------------------------------------


def test_what_was_flushed_is_found_again(folder: Folder) -> None:
    file, journal = folder.open()
    assert (len(journal), journal.last_seq) == (0, 0)
    file.append(entry(1, b"flushed"))
    file.flush(2)
    file.append(entry(2, b"not flushed"))
    folder.crash()
    assert folder.read() == [(1, b"flushed")]


def test_every_start_is_counted_and_the_identity_stays(folder: Folder) -> None:
    states = []
    for _ in range(3):
        file, _ = folder.open()
        states.append((file.state.journal_id, file.state.incarnation))
        folder.crash()
    (name, _), *_ = states
    assert states == [(name, 1), (name, 2), (name, 3)]


def test_state_is_kept(folder: Folder) -> None:
    file, _ = folder.open()
    file.state.contacted, file.state.adopted_owner, file.state.adopted_seq = True, "other:1:1", 7
    file.save_state()
    folder.crash()
    file, _ = folder.open()
    assert (file.state.contacted, file.state.adopted_owner, file.state.adopted_seq) == (True, "other:1:1", 7)


def test_refused_and_applied_entries_are_known_again(folder: Folder) -> None:
    file, _ = folder.open()
    for seq in (1, 2, 3):
        file.append(entry(seq))
    file.append_void(2)
    file.append_applied(1)
    file.flush(4)
    folder.crash()
    _, journal = folder.open()
    assert [(each.void, each.acknowledged) for each in journal.range(1, 3)] == [
        (False, True),
        (True, True),
        (False, False),
    ]


def test_numbering_behind_a_lost_tail_survives_a_restart(folder: Folder) -> None:
    folder.write(entry(1), entry(2))
    file, journal = folder.open()
    # The data set turned out to hold entry 9.
    journal.skip_to(9)
    file.append_skip(9)
    file.flush(10)
    folder.crash()
    # Also where nothing was written since: the next start must not replay over the hole.
    file, journal = folder.open()
    assert (journal.first_seq, journal.last_seq) == (10, 9)
    file.append(entry(10))
    file.flush(11)
    folder.crash()
    assert folder.read() == seqs(10, 10)
    folder.write(entry(11))
    assert folder.read() == seqs(10, 11)


@pytest.mark.parametrize("fsync", list(Fsync))
def test_close_leaves_everything_and_gives_up_the_lock(folder: Folder, fsync: Fsync) -> None:
    file, _ = folder.open(fsync=fsync)
    file.append(entry(1))
    file.flush(2)
    file.close()
    folder.file = None
    assert folder.read() == seqs(1, 1)


def test_second_opener_is_refused(folder: Folder) -> None:
    folder.open()
    with pytest.raises(JournalError, match="in use by another link: one link per trader id"):
        JournalFile(folder.path, fsync=Fsync.NEVER, segment_bytes=BIG).open()


def test_a_path_that_is_no_folder_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="give the link a folder it may write"):
        JournalFile(tmp_path / "file" / "journal", fsync=Fsync.NEVER, segment_bytes=BIG).open()


# --- torn and damaged ------------------------------------------------------------------------------------------------


def test_torn_tail_is_cut_at_every_byte(folder: Folder) -> None:
    folder.write(entry(1), entry(2))
    (segment,) = folder.segments
    whole = segment.read_bytes()
    record = (len(whole) - len(MAGIC)) // 2
    for size in range(len(whole)):
        segment.write_bytes(whole[:size])
        kept = max(size - len(MAGIC), 0) // record
        file, journal = folder.open()
        assert journal.last_seq == kept
        assert file.torn_bytes == (max(size - len(MAGIC), 0) % record)
        # And what is appended behind the cut is found again.
        file.append(entry(kept + 1, b"after"))
        file.flush(kept + 2)
        folder.crash()
        assert folder.read() == [*seqs(1, kept), (kept + 1, b"after")]


def _damage(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


def test_damage_in_the_middle_of_the_last_segment_is_refused(folder: Folder) -> None:
    folder.write(entry(1), entry(2), entry(3))
    (segment,) = folder.segments
    record = (segment.stat().st_size - len(MAGIC)) // 3
    _damage(segment, len(MAGIC) + record + record // 2)
    size = segment.stat().st_size
    with pytest.raises(JournalError, match=rf"{segment} is damaged at byte {len(MAGIC) + record}: .* restore the file"):
        folder.open()
    assert segment.stat().st_size == size, "an operator may still want to look at it"


def test_damage_at_the_end_of_an_earlier_segment_is_refused(folder: Folder) -> None:
    folder.write(entry(1), entry(2), segment_bytes=1)
    first, *_ = folder.segments
    _damage(first, first.stat().st_size - 1)
    with pytest.raises(JournalError, match=rf"{first} is damaged at byte {len(MAGIC)}"):
        folder.open()


def test_missing_segment_in_the_middle_is_refused(folder: Folder) -> None:
    folder.write(entry(1), entry(2), entry(3), segment_bytes=1)
    folder.segments[1].unlink()
    with pytest.raises(JournalError, match=r"entry 3 does not follow 1: a segment before it is missing"):
        folder.open()


def test_foreign_files_are_refused(folder: Folder) -> None:
    folder.write(entry(1))
    stray = folder.path / "copy.journal"
    stray.write_bytes(MAGIC)
    with pytest.raises(JournalError, match="move it out of the folder"):
        folder.open()
    stray.unlink()
    folder.segments[0].write_bytes(b"something else")
    with pytest.raises(JournalError, match="is not a journal segment"):
        folder.open()


@pytest.mark.parametrize("text", ["", "{", '{"unknown": 1}', "[]"])
def test_damaged_state_is_refused(folder: Folder, text: str) -> None:
    folder.write(entry(1))
    (folder.path / "link.json").write_text(text)
    with pytest.raises(JournalError, match=r"link\.json is damaged"):
        folder.open()


def test_missing_state_beside_segments_is_refused(folder: Folder) -> None:
    folder.write(entry(1))
    (folder.path / "link.json").unlink()
    with pytest.raises(JournalError, match=r"link\.json is missing"):
        folder.open()


def test_journal_of_another_marker_is_refused(tmp_path: Path) -> None:
    """Its entries are done by the count of that marker; by this one they would be applied again."""

    def opened(marker_key: str) -> JournalFile:
        file = JournalFile(tmp_path, fsync=Fsync.NEVER, segment_bytes=1 << 20, marker_key=marker_key)
        file.open()
        return file

    opened("trader-A.link").close()
    with pytest.raises(JournalError, match=r"trader-A\.link, not to trader-B\.link.*TRADER_ID"):
        opened("trader-B.link")
    opened("trader-A.link").close()


def test_half_written_state_does_not_count(folder: Folder) -> None:
    folder.write(entry(1))
    (folder.path / "link.json.new").write_text("{")
    assert folder.read() == seqs(1, 1)
    assert json.loads((folder.path / "link.json").read_text())["incarnation"] == 2


# --- segments --------------------------------------------------------------------------------------------------------


def test_segments_are_named_after_their_first_entry(folder: Folder) -> None:
    folder.write(entry(1), entry(2), entry(3), segment_bytes=70)
    assert [int(path.stem) for path in folder.segments] == [1, 3]
    assert folder.read() == seqs(1, 3)


def test_trim_deletes_only_segments_that_hold_nothing_any_more(folder: Folder) -> None:
    file, _ = folder.open(segment_bytes=1)
    for seq in (1, 2, 3):
        file.append(entry(seq))
        file.flush(seq + 1)
    file.trim(1)
    assert [int(path.stem) for path in folder.segments] == [1, 2, 3, 4]
    file.trim(3)
    assert [int(path.stem) for path in folder.segments] == [3, 4]
    file.trim(99)
    assert [int(path.stem) for path in folder.segments] == [4], "the one that is written to stays"
    folder.crash()
    _, journal = folder.open()
    assert (journal.first_seq, journal.last_seq) == (4, 3)


def test_refusal_of_an_entry_in_a_deleted_segment_is_ignored(folder: Folder) -> None:
    file, _ = folder.open(segment_bytes=1)
    file.append(entry(1))
    file.flush(2)
    file.append_void(1)
    file.append(entry(2))
    file.flush(3)
    file.trim(2)
    folder.crash()
    assert folder.read() == seqs(2, 2)


def test_entries_are_as_old_as_their_segment_says(folder: Folder) -> None:
    folder.write(*map(entry, range(1, 5)), segment_bytes=60)
    first, *others = folder.segments
    assert others
    os.utime(first, (time.time() - 100, time.time() - 100))
    # Written when the clock was ahead.
    os.utime(others[-1], (time.time() + 1000, time.time() + 1000))
    _, journal = folder.open()
    now = time.monotonic()
    assert now - journal.entry(1).accepted_at == pytest.approx(100, abs=20)
    assert now - journal.entry(4).accepted_at == pytest.approx(0, abs=20)


# --- a full disk -----------------------------------------------------------------------------------------------------


class Disk:
    """Lets ``os`` fail as a full or broken disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = BIG
        self.broken_sync = False
        self.broken_truncate = False
        self._write, self._sync, self._truncate = os.write, os.fdatasync, os.ftruncate
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "fdatasync", self.sync)
        monkeypatch.setattr(os, "ftruncate", self.truncate)

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = self._write(descriptor, data[: self.room])
        self.room -= count
        return count

    def sync(self, descriptor: int) -> None:
        if self.broken_sync:
            raise OSError(errno.EIO, "Input/output error")
        self._sync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        if self.broken_truncate:
            raise OSError(errno.EIO, "Input/output error")
        self._truncate(descriptor, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def _refused(action: Callable[[], None], number: int) -> None:
    with pytest.raises(OSError) as caught:
        action()
    assert caught.value.errno == number


@pytest.mark.parametrize("room", [0, 1, 8, 30, 46])
def test_full_disk_leaves_the_journal_as_it_was_and_nothing_is_lost(folder: Folder, disk: Disk, room: int) -> None:
    file, _ = folder.open()
    file.append(entry(1))
    file.flush(2)
    before = folder.segments[0].read_bytes()
    disk.room = room
    file.append(entry(2))
    file.append(entry(3))
    for _ in range(2):
        _refused(lambda: file.flush(4), errno.ENOSPC)
        assert folder.segments[0].read_bytes() == before
        disk.room = room
    disk.room = BIG
    file.flush(4)
    folder.crash()
    assert folder.read() == seqs(1, 3)


def test_crash_on_a_full_disk_leaves_a_readable_journal(folder: Folder, disk: Disk) -> None:
    file, _ = folder.open()
    disk.room, disk.broken_truncate = 20, True
    file.append(entry(1))
    _refused(lambda: file.flush(2), errno.ENOSPC)
    folder.crash()
    disk.room, disk.broken_truncate = BIG, False
    assert folder.read() == []


def test_nothing_is_written_behind_half_a_record(folder: Folder, disk: Disk) -> None:
    file, _ = folder.open()
    disk.room, disk.broken_truncate = 20, True
    file.append(entry(1))
    _refused(lambda: file.flush(2), errno.ENOSPC)
    disk.room = BIG
    _refused(lambda: file.flush(2), errno.EIO)
    disk.broken_truncate = False
    file.flush(2)
    folder.crash()
    assert folder.read() == seqs(1, 1)


def test_what_could_not_be_synced_counts_as_not_written(folder: Folder, disk: Disk) -> None:
    file, _ = folder.open(fsync=Fsync.ALWAYS)
    disk.broken_sync = True
    file.append(entry(1))
    for _ in range(2):
        _refused(lambda: file.flush(2), errno.EIO)
        assert folder.segments[0].read_bytes() == MAGIC
    disk.broken_sync = False
    file.flush(2)
    folder.crash()
    assert folder.read() == seqs(1, 1)


@pytest.mark.parametrize("room", range(len(MAGIC)))
def test_disk_that_is_full_when_a_segment_begins_does_not_spoil_the_folder(
    folder: Folder, disk: Disk, room: int
) -> None:
    record = 26 + len(b"payload")
    file, _ = folder.open(segment_bytes=2 * record)
    file.append(entry(1))
    file.flush(2)
    disk.room = record + room
    file.append(entry(2))
    _refused(lambda: file.flush(3), errno.ENOSPC)
    disk.room = BIG
    for seq in (3, 4):
        file.append(entry(seq))
        file.flush(seq + 1)
    folder.crash()
    assert folder.read() == seqs(1, 4)
