"""The gate in front of clients that have not logged in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_node.link import wire
from trader_node.link.login import NOAUTH, NOPROTO, WRONGPASS, Gate, Login, MalformedError, next_command

LOGIN = Login("node", "s3cr3t")
RIGHT = wire.encode_command(b"AUTH", b"node", b"s3cr3t")


class Story:
    """A gate, what it answered, and what it let through."""

    def __init__(self, login: Login = LOGIN) -> None:
        self.out = b""
        self.closed = False
        self.passed: bytes | None = None
        self._gate = Gate(login, self._send, self._close)

    def send(self, data: bytes) -> Story:
        rest = self._gate.receive(data) if self.passed is None else data
        if rest is not None:
            self.passed = (self.passed or b"") + rest
        return self

    def _send(self, data: bytes) -> None:
        assert not self.closed
        self.out += data

    def _close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ((b"GET", b"k"), NOAUTH),
        ((b"PING",), NOAUTH),
        ((b"MULTI",), NOAUTH),
        ((b"CLIENT", b"SETINFO", b"lib-name", b"x"), NOAUTH),
        ((b"auth", b"node", b"wrong"), WRONGPASS),
        ((b"AUTH", b"other", b"s3cr3t"), WRONGPASS),
        # One argument is the password of the user "default".
        ((b"AUTH", b"s3cr3t"), WRONGPASS),
        ((b"AUTH",), wire.encode_error("ERR wrong number of arguments for 'auth' command")),
        ((b"HELLO",), NOAUTH),
        ((b"HELLO", b"2"), NOAUTH),
        ((b"HELLO", b"3", b"AUTH", b"node", b"s3cr3t"), NOPROTO),
        ((b"HELLO", b"2", b"AUTH", b"node", b"wrong"), WRONGPASS),
        ((b"HELLO", b"2", b"AUTH", b"node"), wire.encode_error("ERR syntax error")),
        ((b"RESET",), b"+RESET\r\n"),
    ],
)
def test_shut(command: tuple[bytes, ...], answer: bytes) -> None:
    story = Story().send(wire.encode_command(*command))
    assert (story.out, story.passed, story.closed) == (answer, None, False)
    story.send(RIGHT)
    assert story.passed == RIGHT


@pytest.mark.parametrize(
    "command",
    [
        (b"AUTH", b"node", b"s3cr3t"),
        (b"hello", b"2", b"auth", b"node", b"s3cr3t"),
        (b"HELLO", b"2", b"SETNAME", b"me", b"AUTH", b"node", b"s3cr3t"),
    ],
)
def test_the_right_login_and_what_follows_pass(command: tuple[bytes, ...]) -> None:
    data = wire.encode_command(*command) + wire.encode_command(b"SET", b"k", b"x" * 100_000)[:50_000]
    story = Story().send(data)
    assert (story.out, story.passed) == (b"", data)


def test_the_default_user() -> None:
    login = Login("default", "p")
    assert Story(login).send(wire.encode_command(b"AUTH", b"p")).passed is not None
    assert Story(login).send(wire.encode_command(b"AUTH", b"default", b"p")).passed is not None


@given(st.lists(st.integers(1, 300), max_size=4).map(sorted))
def test_chunks_make_no_difference(cuts: list[int]) -> None:
    before = wire.encode_command(b"GET", b"k\r\n") + wire.encode_command(b"AUTH", b"node", b"no")
    after = RIGHT + wire.encode_command(b"SET", b"k", b"v" * 100)
    data, story, start = before + after, Story(), 0
    for cut in [*cuts, len(data)]:
        story.send(data[start:cut])
        start = max(start, cut)
    assert (story.out, story.passed) == (NOAUTH + WRONGPASS, after)


@pytest.mark.parametrize(
    "data",
    [
        b"PING\r\n",
        b"AUTH node s3cr3t\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"*1\r\n:1\r\n",
        b"*-1\r\n",
        b"*11\r\n",
        b"*1\r\n$16385\r\n",
        b"*99999999",
        b"*1\r\n$1\r\nabc",
        b"\x16\x03\x01\x02",
    ],
)
def test_what_is_no_short_command_ends_it(data: bytes) -> None:
    with pytest.raises(MalformedError):
        next_command(data)
    story = Story().send(data)
    assert story.out.startswith(b"-ERR Protocol error")
    assert story.closed
    # Whatever comes before the connection is gone.
    assert story.send(RIGHT).passed is None


def test_quit_ends_it() -> None:
    story = Story().send(wire.encode_command(b"QUIT") + RIGHT)
    assert (story.out, story.closed, story.passed) == (wire.OK, True, None)


@given(st.binary(max_size=200))
def test_bytes_never_break_it(data: bytes) -> None:
    story = Story().send(data)
    assert story.passed is None or RIGHT in data


def test_the_password_is_not_shown() -> None:
    assert "s3cr3t" not in repr(LOGIN)
