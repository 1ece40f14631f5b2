"""Subscriptions of one client, on a connection of its own that is made again after a failover.

Messages that are published while there is no connection are lost: Redis' own pub/sub gives each message to those who
are connected at that moment, and no more. Confirmations come from Redis itself, so that whoever was told that it is
subscribed gets what is published from then on; those of subscribing again after a failover are not passed on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from . import wire
from .errors import Blame, blame
from .side import Side
from .verdicts import Arguments

#: Opens a connection: what to send first on each new one, and what takes replies.
OpenSide = Callable[[Callable[[], bytes], Callable[[bytes], None]], Side]

_MESSAGES = (b"*3\r\n$7\r\nmessage\r\n", b"*4\r\n$8\r\npmessage\r\n", b"*3\r\n$8\r\nsmessage\r\n")
_SUBSCRIBES = (b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE")
_UNSUBSCRIBES = dict(zip((b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE"), _SUBSCRIBES, strict=True))
_SHARDED = b"SSUBSCRIBE"
_ALLOWED = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"


@dataclass(frozen=True, slots=True)
class _Request:
    """Something of the client's that is not answered yet: a subscription, or a reply of the link's own in its place."""

    name: bytes = b""
    argument: bytes = b""
    reply: bytes = b""

    @property
    def payload(self) -> bytes:
        return b"" if self.reply else wire.encode_command(self.name, self.argument)


class Subscriber:
    """State of one client's subscriptions. ``send`` takes bytes for the client."""

    def __init__(self, send: Callable[[bytes], None], open_side: OpenSide) -> None:
        self._send = send
        self._open_side = open_side
        self._side: Side | None = None
        #: What Redis has confirmed, and what it will have when all requests are answered; by subscribing command.
        self._confirmed: dict[bytes, dict[bytes, None]] = {name: {} for name in _SUBSCRIBES}
        self._wanted: dict[bytes, dict[bytes, None]] = {name: {} for name in _SUBSCRIBES}
        self._requests: deque[_Request] = deque()
        #: Confirmations still due of what was subscribed to again.
        self._again = 0

    @property
    def active(self) -> bool:
        """Whether the client is in the state in which only a few commands are allowed."""
        return bool(self._requests) or any(self._confirmed.values()) or any(self._wanted.values())

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many channels, patterns and shard channels the client has subscribed to."""
        return tuple(map(len, self._wanted.values()))  # type: ignore[return-value]

    def take(self, arguments: Arguments) -> bool:
        """Carry out a command of a client that subscribes, or return False if it has to wait."""
        name = arguments[0].upper()
        if name in _SUBSCRIBES:
            if len(arguments) == 1:
                self._answer(_arity(name))
            for argument in arguments[1:]:
                self._wanted[name][argument] = None
                self._request(_Request(name, argument))
        elif name in _UNSUBSCRIBES:
            self._unsubscribe(name, arguments[1:])
        elif name == b"PING":
            text = arguments[1] if len(arguments) > 1 else b""
            self._answer(wire.join_array([wire.encode_bulk(b"pong"), wire.encode_bulk(text)]))
        elif not any(self._wanted.values()):
            # It has ended all subscriptions, and is no subscriber any more once that is confirmed.
            return False
        else:
            shown = name[:128].decode(errors="replace").lower()
            self._answer(wire.encode_error(f"ERR Can't execute '{shown}': {_ALLOWED}"))
        return True

    def pause(self, paused: bool) -> None:
        """Take no messages while the client does not read them."""
        if self._side is not None:
            self._side.pause(paused)

    def close(self) -> None:
        """End all subscriptions: the client is gone, or has reset its connection."""
        if self._side is not None:
            self._side.close()
            self._side = None
        self._requests.clear()
        self._again = 0
        for names in (*self._confirmed.values(), *self._wanted.values()):
            names.clear()

    def _unsubscribe(self, name: bytes, arguments: Arguments) -> None:
        wanted = self._wanted[_UNSUBSCRIBES[name]]
        for argument in arguments or tuple(wanted):
            wanted.pop(argument, None)
            self._request(_Request(name, argument))
            arguments = (argument,)
        if not arguments:
            # Nothing to end is an answer, too.
            sharded = _UNSUBSCRIBES[name] == _SHARDED
            count = sum(len(self._wanted[each]) for each in _SUBSCRIBES if (each == _SHARDED) == sharded)
            nothing = [wire.encode_bulk(name.lower()), b"$-1\r\n", wire.encode_integer(count)]
            self._answer(wire.join_array(nothing))

    def _answer(self, reply: bytes) -> None:
        if self._requests:
            self._requests.append(_Request(reply=reply))
        else:
            self._send(reply)

    def _request(self, request: _Request) -> None:
        self._requests.append(request)
        if self._side is None:
            self._side = self._open_side(self._greet, self._receive)
        else:
            self._side.send(request.payload)

    def _greet(self) -> bytes:
        self._again = sum(map(len, self._confirmed.values()))
        again = [wire.encode_command(name, *names) for name, names in self._confirmed.items() if names]
        return b"".join([*again, *(request.payload for request in self._requests)])

    def _receive(self, reply: bytes) -> None:
        if reply.startswith(_MESSAGES):
            self._send(reply)
            return
        if wire.is_error(reply):
            text = wire.error_text(reply)
            if self._again or not self._requests or blame(text) is not Blame.COMMAND:
                if self._side is not None:
                    self._side.restart(text)
                return
        elif self._again:
            self._again -= 1
            return
        self._confirm(reply)

    def _confirm(self, reply: bytes) -> None:
        if not self._requests:
            # Ended by Redis itself: a shard channel that moved.
            self._send(reply)
            return
        request = self._requests.popleft()
        if request.name in _UNSUBSCRIBES:
            self._confirmed[_UNSUBSCRIBES[request.name]].pop(request.argument, None)
        elif wire.is_error(reply):
            self._wanted[request.name].pop(request.argument, None)
        else:
            self._confirmed[request.name][request.argument] = None
        self._send(reply)
        while self._requests and self._requests[0].reply:
            self._send(self._requests.popleft().reply)
        if not self.active and self._side is not None:
            self._side.close()
            self._side = None


def _arity(name: bytes) -> bytes:
    return wire.encode_error(f"ERR wrong number of arguments for '{name.decode().lower()}' command")
