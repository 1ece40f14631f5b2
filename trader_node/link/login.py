"""The login that the link may ask of its own clients, and the gate in front of those who have not given it.

The gate is not part of the session, so that no way through the session can go past it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from .wire import OK, encode_error

DEFAULT_USERNAME = "default"

NOAUTH = encode_error("NOAUTH Authentication required.")
WRONGPASS = encode_error("WRONGPASS invalid username-password pair or user is disabled.")
NOPROTO = encode_error("NOPROTO unsupported protocol version: the link speaks RESP2")
_PROTOCOL_ERROR = encode_error("ERR Protocol error: commands must be RESP arrays of bulk strings")
_SYNTAX_ERROR = encode_error("ERR syntax error")
_AUTH_ARITY = encode_error("ERR wrong number of arguments for 'auth' command")

#: What somebody without login may send in one command; Redis has the same bounds (``networking.c``).
_MOST_ARGUMENTS = 10
_MOST_BYTES = 16384
_MOST_DIGITS = 6


class MalformedError(ValueError):
    """The bytes are no command, or too much for somebody without login."""


@dataclass(frozen=True, slots=True)
class Login:
    """User name and password that clients of the link have to give."""

    username: str
    password: str = field(repr=False)

    def accepts(self, username: bytes, password: bytes) -> bool:
        """Tell whether they are right, in a time that does not depend on how much of them is."""
        # Both, whatever the first says.
        name = hmac.compare_digest(username, self.username.encode())
        return hmac.compare_digest(password, self.password.encode()) and name

    def auth_error(self, arguments: tuple[bytes, ...]) -> bytes:
        """Return the error that answers AUTH, or nothing if the login is right."""
        if len(arguments) not in (2, 3):
            return _AUTH_ARITY
        username = arguments[1] if len(arguments) == 3 else DEFAULT_USERNAME.encode()
        return b"" if self.accepts(username, arguments[-1]) else WRONGPASS

    def hello_error(self, arguments: tuple[bytes, ...], *, known: bool) -> bytes:
        """Return the error that answers HELLO, or nothing; ``known``: the client has given the login before."""
        if len(arguments) > 1 and arguments[1] != b"2":
            return NOPROTO
        rest = arguments[2:]
        while rest:
            option = rest[0].upper()
            if option == b"AUTH" and len(rest) >= 3:
                if not self.accepts(rest[1], rest[2]):
                    return WRONGPASS
                known, rest = True, rest[3:]
            elif option == b"SETNAME" and len(rest) >= 2:
                rest = rest[2:]
            else:
                return _SYNTAX_ERROR
        return b"" if known else NOAUTH


class Gate:
    """What stands between a client and its session until it has given the login.

    It answers everything itself, with NOAUTH at best, except the AUTH or HELLO with the right login: that opens it, and
    is for the session to answer, like all that follows.
    """

    def __init__(self, login: Login, send: Callable[[bytes], None], close: Callable[[], None]) -> None:
        self._login = login
        self._send = send
        self._close = close
        self._buffer = b""
        self._closed = False
        #: Logins that were wrong.
        self.refused = 0

    def receive(self, data: bytes) -> bytes | None:
        """Take bytes of the client; return None while the gate is shut, and the session's part when it opens."""
        if self._closed:
            return None
        self._buffer += data
        answers: list[bytes] = []
        position, opened = self._read(answers)
        rest, self._buffer = self._buffer[position:], b""
        if answers:
            self._send(b"".join(answers))
        if opened:
            return rest
        if self._closed:
            self._close()
        else:
            self._buffer = rest
        return None

    def _read(self, answers: list[bytes]) -> tuple[int, bool]:
        """Answer whole commands; return where the rest begins, and whether it begins with the right login."""
        position = 0
        try:
            while not self._closed and (found := next_command(self._buffer, position)) is not None:
                arguments, end = found
                answer = self._answer(arguments) if arguments else b""
                if answer is None:
                    return position, True
                answers.append(answer)
                position = end
        except MalformedError:
            answers.append(_PROTOCOL_ERROR)
            self._closed = True
        return position, False

    def _answer(self, arguments: tuple[bytes, ...]) -> bytes | None:
        """Return the answer to a command, or None if it opens the gate."""
        match arguments[0].upper():
            case b"AUTH":
                error = self._login.auth_error(arguments)
            case b"HELLO":
                error = self._login.hello_error(arguments, known=False)
            case b"RESET":
                return b"+RESET\r\n"
            case b"QUIT":
                self._closed = True
                return OK
            case _:
                return NOAUTH
        self.refused += error == WRONGPASS
        return error or None


def next_command(buffer: bytes, start: int = 0) -> tuple[tuple[bytes, ...], int] | None:
    """Return the command that begins at ``start`` and where it ends, or None if it is not complete.

    Raises ``MalformedError`` for anything but a short RESP array of bulk strings.
    """
    line = _number(buffer, start, b"*", _MOST_ARGUMENTS)
    if line is None:
        return None
    count, position = line
    arguments = []
    for _ in range(count):
        line = _number(buffer, position, b"$", _MOST_BYTES)
        if line is None:
            return None
        length, position = line
        end = position + length
        if len(buffer) < end + 2:
            return None
        if buffer[end : end + 2] != b"\r\n":
            raise MalformedError
        arguments.append(buffer[position:end])
        position = end + 2
    return tuple(arguments), position


def _number(buffer: bytes, position: int, mark: bytes, most: int) -> tuple[int, int] | None:
    """Return the number of a line that begins with ``mark``, and where the line ends; None if it is not complete."""
    end = buffer.find(b"\r\n", position, position + _MOST_DIGITS + 3)
    line = buffer[position : position + _MOST_DIGITS + 3] if end < 0 else buffer[position:end]
    if line[:1] not in (b"", mark) or (end < 0 and len(line) > _MOST_DIGITS + 2):
        raise MalformedError
    if end < 0:
        return None
    digits = line[1:]
    if not digits.isdigit() or int(digits) > most:
        raise MalformedError
    return int(digits), end + 2
