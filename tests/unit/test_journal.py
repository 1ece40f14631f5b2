"""The window of entries, and their records."""

from __future__ import annotations

import struct
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_node.link.entries import ENTRY_OVERHEAD_BYTES, Entry, Form
from trader_node.link.journal import (
    AppliedRecord,
    Journal,
    JournalError,
    Record,
    ReplacedRecord,
    SkipRecord,
    VoidRecord,
    decode_records,
    encode_applied,
    encode_entry,
    encode_replaced,
    encode_skip,
    encode_void,
    record_behind,
)


def entry(seq: int, payload: bytes = b"payload") -> Entry:
    return Entry(seq, 0, 0, Form.SINGLE, 1, payload)


def journal(last: int, first: int = 1) -> Journal:
    result = Journal(first)
    for seq in range(first, last + 1):
        result.append(entry(seq))
    return result


def numbers(result: Journal) -> list[int]:
    return [each.seq for each in result.range(result.first_seq, result.last_seq)]


def encode(record: Record) -> bytes:
    match record:
        case Entry():
            return encode_entry(record)
        case VoidRecord(seq):
            return encode_void(seq)
        case AppliedRecord(seq):
            return encode_applied(seq)
        case ReplacedRecord(seq, commands, payload):
            return encode_replaced(Entry(seq, 0, 0, Form.BATCH, commands, payload))
        case SkipRecord(seq):
            return encode_skip(seq)


def shown(record: Record) -> Any:
    if isinstance(record, Entry):
        return record.seq, record.db, record.end_db, record.form, record.commands, record.payload
    return record


SEQ = st.integers(0, 2**64 - 1)
RECORDS = st.one_of(
    st.builds(
        Entry, SEQ, st.integers(0, 65535), st.integers(0, 65535), st.sampled_from(Form), st.integers(0, 2**32 - 1),
        st.binary(max_size=60),
    ),
    st.builds(VoidRecord, SEQ),
    st.builds(ReplacedRecord, SEQ, st.integers(0, 2**32 - 1), st.binary(max_size=60)),
    st.builds(AppliedRecord, SEQ),
    st.builds(SkipRecord, SEQ),
)  # fmt: skip


# --- records ---------------------------------------------------------------------------------------------------------


@given(st.lists(RECORDS, max_size=5))
def test_records_round_trip(records: list[Record]) -> None:
    data = b"".join(encode(record) for record in records)
    decoded = decode_records(b"magic" + data, 5)
    assert [shown(record) for record in decoded.records] == [shown(record) for record in records]
    assert decoded.valid_bytes == 5 + len(data)


def test_torn_tail_at_every_byte_keeps_what_is_whole() -> None:
    records: list[Record] = [entry(1, b"a"), entry(2, b""), AppliedRecord(2), VoidRecord(2), entry(3, b"long" * 9)]
    ends = [0]
    for record in records:
        ends.append(ends[-1] + len(encode(record)))
    data = b"".join(encode(record) for record in records)
    for cut in range(len(data) + 1):
        whole = sum(end <= cut for end in ends) - 1
        decoded = decode_records(data[:cut], 0)
        assert [shown(record) for record in decoded.records] == [shown(record) for record in records[:whole]]
        assert decoded.valid_bytes == ends[whole]
        assert not record_behind(data[:cut], decoded.valid_bytes)


def test_any_changed_byte_is_noticed_and_told_from_a_torn_tail() -> None:
    first, second = encode_entry(entry(1)), encode_entry(entry(2))
    for position in range(len(first)):
        data = bytearray(first + second)
        data[position] ^= 0x40
        decoded = decode_records(bytes(data), 0)
        assert decoded.records == []
        assert decoded.valid_bytes == 0
        assert record_behind(bytes(data), 0), position


def test_zeros_after_a_power_loss_are_a_torn_tail() -> None:
    data = encode_entry(entry(1))
    decoded = decode_records(data + bytes(4096), 0)
    assert len(decoded.records) == 1
    assert decoded.valid_bytes == len(data)
    assert not record_behind(data + bytes(4096), len(data))


def test_record_of_a_newer_version_is_refused() -> None:
    body = struct.pack("<BBHHIQ", 9, 0, 0, 0, 0, 1)
    checked = struct.pack("<I", len(body)) + body
    with pytest.raises(JournalError, match="unknown kind 9"):
        decode_records(struct.pack("<I", zlib.crc32(checked)) + checked, 0)


# --- the window ------------------------------------------------------------------------------------------------------


def test_numbers_have_no_gaps() -> None:
    result = journal(3)
    assert (result.first_seq, result.last_seq, len(result)) == (1, 3, 3)
    for seq in (3, 5):
        with pytest.raises(JournalError, match=f"entry {seq} does not follow 3"):
            result.append(entry(seq))


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [(5, 9, [5, 6, 7, 8, 9]), (6, 7, [6, 7]), (1, 5, [5]), (9, 20, [9]), (1, 4, []), (10, 12, []), (7, 6, [])],
)
def test_range_is_cut_to_what_is_kept(first: int, last: int, found: list[int]) -> None:
    assert [each.seq for each in journal(9, first=5).range(first, last)] == found


def test_size_counts_what_is_kept() -> None:
    result = journal(3)
    one = len(b"payload") + ENTRY_OVERHEAD_BYTES
    assert result.size_bytes == 3 * one
    result.make_void(result.entry(2))
    assert result.size_bytes == 3 * one - len(b"payload")
    result.trim(2)
    assert result.size_bytes == one
    result.trim(3)
    assert (result.size_bytes, result.first_seq, result.last_seq) == (0, 4, 3)


def test_end_of_the_oldest_that_count_so_many_bytes() -> None:
    result = journal(9, first=5)
    one = len(b"payload") + ENTRY_OVERHEAD_BYTES
    assert [result.end_of_oldest(size) for size in (1, one, one + 1, 5 * one, 99 * one)] == [5, 5, 6, 9, 9]


@pytest.mark.parametrize(("up_to", "count", "left"), [(0, 0, [1, 2, 3]), (1, 1, [2, 3]), (3, 3, []), (9, 3, [])])
def test_trim(up_to: int, count: int, left: list[int]) -> None:
    result = journal(3)
    assert result.trim(up_to) == count
    assert numbers(result) == left
    result.append(entry(4))
    assert numbers(result) == [*left, 4]


def test_skip_begins_anew() -> None:
    result = journal(3)
    result.skip_to(7)
    assert (result.first_seq, result.last_seq, result.size_bytes) == (8, 7, 0)
    result.append(entry(8))
    assert numbers(result) == [8]


# --- taking records from disk ----------------------------------------------------------------------------------------


def taken(*records: Record, first: int = 1) -> Journal:
    result = Journal(first)
    for record in records:
        result.take(record)
    return result


def test_only_entries_that_clients_may_know_are_acknowledged() -> None:
    result = taken(entry(1), entry(2), AppliedRecord(1), entry(3), AppliedRecord(2))
    assert [each.acknowledged for each in result.range(1, 3)] == [True, True, False]


def test_a_refused_entry_keeps_its_number_and_does_not_keep_others_from_being_trimmed() -> None:
    result = taken(entry(1), entry(2), VoidRecord(2), entry(3))
    assert numbers(result) == [1, 2, 3]
    assert result.entry(2).void
    assert result.entry(2).acknowledged


def test_of_a_batch_only_what_redis_took_is_read_back() -> None:
    result = journal(2)
    result.take(ReplacedRecord(2, 3, b"what is left"))
    assert (result.entry(2).commands, result.entry(2).payload) == (3, b"what is left")
    assert result.size_bytes == sum(each.size for each in result.range(1, 2))
    result.trim(2)
    result.take(ReplacedRecord(2, 3, b"trimmed"))
    assert len(result) == 0


def test_records_about_trimmed_entries_are_ignored() -> None:
    result = taken(VoidRecord(3), AppliedRecord(4), entry(5), AppliedRecord(4), first=5)
    assert numbers(result) == [5]
    assert not result.entry(5).acknowledged


def test_numbering_goes_on_behind_a_lost_tail() -> None:
    result = taken(entry(1), entry(2), SkipRecord(9), entry(10), AppliedRecord(10))
    assert numbers(result) == [10]
    assert result.entry(10).acknowledged


def test_the_end_of_a_long_window_is_reached_as_soon_as_that_of_a_short_one() -> None:
    """A walk from its beginning for each transaction would take seconds here, and a start of the link minutes."""
    result = Journal()
    began = time.monotonic()
    for seq in range(1, 100_001):
        result.take(entry(seq))
        result.take(AppliedRecord(seq))
        result.range(seq, seq + 10)
    assert time.monotonic() - began < 10
