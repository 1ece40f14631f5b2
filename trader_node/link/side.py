"""A connection of one client's own to the current master, made again after a failover: for pub/sub and XREAD BLOCK."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from . import wire
from .decisions import Decision, Reconnect
from .identity import ROLE, says_master

_PAUSE = 0.05

#: Takes bytes of the server; what it returns ends the connection.
Receive = Callable[[bytes], Decision | None]


class Wire(Protocol):
    """A connection to the master."""

    ended: asyncio.Future[Decision]

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def end(self, decision: Decision) -> None:
        """End the connection."""

    def abort(self) -> None:
        """Drop the connection."""

    def pause(self, paused: bool) -> None:
        """Leave what comes to the kernel and to Redis, or read on."""


class Side(Protocol):
    """What sessions see of a connection of their own."""

    def send(self, data: bytes) -> None:
        """Send bytes if the connection is up; if it is not, what ``greet`` returns later will have to do."""

    def restart(self, reason: str) -> None:
        """Give the connection up and make another one."""

    def pause(self, paused: bool) -> None:
        """Leave what comes to the kernel and to Redis, which ends the connection when that becomes too much."""

    def close(self) -> None:
        """End it for good."""


class SideConnection:
    """A :class:`Side` on real connections.

    ``connect`` waits for a master and connects to it, or returns None if that failed. ``greet`` returns what to send
    first on each new connection: all that was asked and not answered. ``auth`` returns the command that logs in,
    or nothing. ``take`` gets whole replies.
    """

    def __init__(
        self,
        connect: Callable[[Receive], Awaitable[Wire | None]],
        auth: Callable[[], bytes],
        greet: Callable[[], bytes],
        take: Callable[[bytes], None],
    ) -> None:
        self._connect = connect
        self._auth = auth
        self._greet = greet
        self._take = take
        self._framer = wire.ReplyFramer()
        #: Replies of the login that are still due.
        self._login = 0
        self._connection: Wire | None = None
        self._paused = False
        self._task = asyncio.create_task(self._run(), name="side connection")

    def send(self, data: bytes) -> None:
        """Send bytes if the connection is up."""
        if self._connection is not None and not self._login:
            self._connection.write(data)

    def restart(self, reason: str) -> None:
        """Give the connection up and make another one."""
        if self._connection is not None:
            self._connection.end(Reconnect(reason))

    def pause(self, paused: bool) -> None:
        """Leave what comes to the kernel and to Redis, or read on."""
        self._paused = paused
        if self._connection is not None:
            self._connection.pause(paused)

    def close(self) -> None:
        """End it for good."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            connection = await self._connect(self._received)
            if connection is not None:
                self._framer = wire.ReplyFramer()
                auth = self._auth()
                self._login = 1 + bool(auth)
                self._connection = connection
                connection.pause(self._paused)
                connection.write(auth + ROLE)
                try:
                    await asyncio.wait([connection.ended])
                finally:
                    self._connection = None
                    connection.abort()
            await asyncio.sleep(_PAUSE)

    def _received(self, data: bytes) -> Decision | None:
        self._framer.feed(data)
        try:
            while (reply := self._framer.next()) is not None:
                if self._login:
                    decision = self._logged_in(reply)
                    if decision is not None:
                        return decision
                else:
                    self._take(reply)
        except wire.ProtocolError as error:
            return Reconnect(f"the server does not speak RESP2: {error}")
        return None

    def _logged_in(self, reply: bytes) -> Decision | None:
        if wire.is_error(reply):
            return Reconnect(wire.error_text(reply))
        self._login -= 1
        if self._login == 0:
            if not says_master(reply):
                return Reconnect("the node is not a master")
            if self._connection is not None:
                self._connection.write(self._greet())
        return None
