"""What one command of a client may promise."""

from __future__ import annotations

import itertools

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_node.link import wire
from trader_node.link.bounds import MOST_ARGUMENT_BYTES, MOST_ARGUMENTS, MOST_COMMAND_BYTES, NO_COMMAND, CommandBounds

WORDS = st.sampled_from([b"", b"a", b"\r\n", b"*1000000000\r\n", b"\r\n*1000000000\r\n", b"\r\n~7654321", b"$5\r\n"])
COMMANDS = st.lists(st.lists(WORDS, min_size=1, max_size=4), max_size=5)


def fed(chunks: list[bytes]) -> tuple[list[list[bytes]], CommandBounds, int]:
    """Return the commands that hiredis finds in what is admitted of the chunks, and how many bytes that is."""
    bounds, reader, found, size = CommandBounds(), hiredis.Reader(), [], 0
    for chunk in chunks:
        admitted = bounds.admit(chunk)
        reader.feed(chunk[:admitted])
        size += admitted
        commands = list(iter(reader.gets, False))
        found += commands
        if not bounds.error and not bounds.followed:
            bounds.parsed(chunk, len(wire.encode_commands(commands)))
        if bounds.error:
            break
    return found, bounds, size


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges) if begin < end]


@given(COMMANDS, st.lists(st.integers(1, 200), max_size=6))
def test_what_keeps_the_bounds_passes_whatever_it_holds(commands: list[list[bytes]], places: list[int]) -> None:
    found, bounds, _ = fed(cut(wire.encode_commands(commands), places))
    assert (found, bounds.error) == (commands, "")


@given(
    COMMANDS,
    st.lists(st.integers(1, 200), max_size=6),
    st.sampled_from(
        [b"*1048577\r\n", b"*2\r\n$1\r\na\r\n*1000000000\r\n", b"~1000000000\r\n", b"*1\r\n>1000000000\r\n"]
    ),
)
def test_what_does_not_is_found_wherever_it_is_cut(
    commands: list[list[bytes]], places: list[int], header: bytes
) -> None:
    data = wire.encode_commands(commands) + header
    found, bounds, size = fed(cut(data + b"$1\r\na\r\n" * 3, places))
    assert found == commands
    assert bounds.error
    assert size < len(data), "hiredis has seen the header"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (b"*%d\r\n" % MOST_ARGUMENTS, ""),
        (b"*1\r\n$%d\r\n" % MOST_ARGUMENT_BYTES, ""),
        (b"*1\r\n$%d\r\n" % (MOST_ARGUMENT_BYTES + 1), "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$-1\r\n", NO_COMMAND),
        (b"*1\r\n:1\r\n", NO_COMMAND),
        (b"*2\r\n$1\r\na\r\n*1\r\n", NO_COMMAND),
        (b"*2\r\n$000000000000001", NO_COMMAND),
    ],
)
def test_bounds_are_those_of_redis(command: bytes, error: str) -> None:
    for place in range(1, len(command)):
        assert fed([command[:place], command[place:]])[1].error == error


def test_a_command_is_bounded_as_a_whole() -> None:
    chunk = b"x" * (1 << 20)
    bounds = CommandBounds()
    bounds.admit(b"*4\r\n")
    bounds.parsed(b"*4\r\n", 0)
    for _ in range(3):
        header = b"$%d\r\n" % (MOST_COMMAND_BYTES * 3 // 8)
        bounds.admit(header)
        if bounds.error:
            break
        for _ in range(MOST_COMMAND_BYTES * 3 // 8 >> 20):
            bounds.admit(chunk)
        bounds.admit(b"\r\n")
    assert bounds.error == "ERR Protocol error: too big a command"
