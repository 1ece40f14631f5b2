"""Framing of replies: whatever the cuts, the bytes come out whole and identical."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_node.link import wire

_LINES = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=12).map(lambda text: text.encode())
_SIMPLE = st.one_of(
    _LINES.map(lambda line: b"+" + line + wire.CRLF),
    _LINES.map(lambda line: b"-ERR " + line + wire.CRLF),
    st.integers(-(2**63), 2**63 - 1).map(wire.encode_integer),
    st.binary(max_size=40).map(wire.encode_bulk),
    st.sampled_from([b"$-1\r\n", wire.NIL_ARRAY, wire.EMPTY_ARRAY]),
    # A bulk string that looks like replies itself.
    st.just(wire.encode_bulk(b"*2\r\n+OK\r\n$-1\r\n")),
)
REPLIES = st.recursive(_SIMPLE, lambda inner: st.lists(inner, max_size=4).map(wire.join_array), max_leaves=12)


def _drain(framer: wire.ReplyFramer) -> list[bytes]:
    replies = []
    while (reply := framer.next()) is not None:
        replies.append(reply)
    return replies


@given(st.lists(REPLIES, min_size=1, max_size=6), st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=200, deadline=None)
def test_replies_come_out_whole_at_any_cuts(replies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(replies)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    framer = wire.ReplyFramer()
    found = []
    for start, end in itertools.pairwise(edges):
        framer.feed(stream[start:end])
        found += _drain(framer)
    assert found == replies


def test_replies_come_out_whole_byte_by_byte() -> None:
    replies = [wire.OK, b"*2\r\n$3\r\na\r\n\r\n*-1\r\n", b"$0\r\n\r\n", b"-ERR no\r\n", b":-7\r\n", b"*0\r\n"]
    framer = wire.ReplyFramer()
    found = []
    for byte in b"".join(replies):
        framer.feed(bytes([byte]))
        found += _drain(framer)
    assert found == replies


def test_long_streams_do_not_stay_in_the_buffer() -> None:
    framer = wire.ReplyFramer()
    for _ in range(100):
        framer.feed(wire.encode_bulk(b"x" * 10_000) + b"+half")
        assert framer.next() is not None
        framer.feed(b"\r\n")
        assert framer.next() == b"+half\r\n"
    assert len(framer._buffer) < 1 << 17


def test_skip_takes_only_whole_expected_bytes_at_the_beginning_of_a_reply() -> None:
    prefix = wire.OK + wire.QUEUED * 2
    framer = wire.ReplyFramer()
    framer.feed(prefix[:-1])
    assert not framer.skip(prefix)
    framer.feed(prefix[-1:] + b":1\r\n")
    assert framer.skip(prefix)
    assert framer.next() == b":1\r\n"
    framer.feed(b"$5\r\n+OK")
    assert framer.next() is None
    assert not framer.skip(wire.OK)


@pytest.mark.parametrize("data", [b"?\r\n", b"%1\r\n", b"$x\r\n", b"*\r\n", b"PING\r\n", b"\r\n"])
def test_what_is_not_resp2_is_a_protocol_error(data: bytes) -> None:
    framer = wire.ReplyFramer()
    framer.feed(data)
    with pytest.raises(wire.ProtocolError):
        framer.next()


@given(st.lists(REPLIES, max_size=5))
def test_split_array_is_the_opposite_of_join_array(replies: list[bytes]) -> None:
    assert wire.split_array(wire.join_array(replies)) == replies


def test_split_array_tells_nil_from_empty_and_refuses_the_rest() -> None:
    assert wire.split_array(wire.NIL_ARRAY) is None
    assert wire.split_array(wire.EMPTY_ARRAY) == []
    with pytest.raises(wire.ProtocolError):
        wire.split_array(wire.OK)


def test_errors_stay_one_line() -> None:
    reply = wire.encode_error("ERR a\r\n+OK\r\n")
    assert reply.count(b"\r\n") == 1
    assert wire.is_error(reply)
    assert wire.error_text(reply) == "ERR a  +OK  "
    assert not wire.is_error(wire.OK)


def test_commands_are_arrays_of_bulk_strings() -> None:
    assert wire.encode_command(b"SET", "k", 5) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n5\r\n"
    assert wire.decode(wire.join_array([wire.encode_bulk(b"a"), wire.encode_integer(2)])) == [b"a", 2]
