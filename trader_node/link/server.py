"""The shell around ``session``: clients' connections."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import ClassVar, Protocol, cast

from .events import event
from .login import Gate
from .session import Hub, Session

logger = logging.getLogger("link.server")

#: Commands that may wait per client, and replies that may be due, before its socket is left to fill up.
_BACKLOG_LIMIT = 1024
_UNANSWERED_LIMIT = 16384
_COMPLAIN_INTERVAL = 5.0


class Clients(Protocol):
    """Where connections register."""

    def opened(self, client: Client) -> int:
        """Take a new client; return its id."""

    def closed(self, client: Client) -> None:
        """Forget a client."""


class Client(asyncio.Protocol):
    """One client's connection."""

    _complained_at: ClassVar[float] = 0.0

    def __init__(self, hub: Hub, clients: Clients) -> None:
        self._hub = hub
        self._clients = clients
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._writable = True
        self._draining = False
        self._gate: Gate | None = None
        self.session: Session | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the session."""
        self._transport = cast(asyncio.Transport, transport)
        self.open = True
        self.session = Session(
            self._hub, self._clients.opened(self), self._transport.write, self._transport.close, self._progressed
        )
        peer = self._transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.session.address = f"{peer[0]}:{peer[1]}".encode()
        if self._hub.login is not None:
            self._gate = Gate(self._hub.login, self._transport.write, self._transport.close)

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the session."""
        assert self.session is not None
        if self._gate is not None:
            rest = self._gate.receive(data)
            self._complain(self._gate)
            if rest is None:
                return
            self._gate, data = None, rest
        session = self.session
        session.receive(data)
        if session.backlog >= _BACKLOG_LIMIT or session.unanswered >= _UNANSWERED_LIMIT:
            self.regulate()

    def pause_writing(self) -> None:
        """Read no more from a client that does not read its replies."""
        self._writable = False
        self._tell_session()
        self.regulate()

    def resume_writing(self) -> None:
        """Read on."""
        self._writable = True
        self._tell_session()
        self.regulate()

    def _tell_session(self) -> None:
        if self.session is not None:
            self.session.pause(not self._writable)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session."""
        assert self.session is not None
        self.open = False
        self.session.disconnected()
        self._clients.closed(self)

    def regulate(self) -> None:
        """Read from the client only while its commands can be taken and its replies leave."""
        if not self.open or self._transport is None or self.session is None or self._transport.is_closing():
            return
        wanted = (
            self._writable
            and not self._draining
            and self.session.backlog < _BACKLOG_LIMIT
            and self.session.unanswered < _UNANSWERED_LIMIT
        )
        if wanted and not self._reading:
            self._reading = True
            self._transport.resume_reading()
        elif not wanted and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _progressed(self) -> None:
        if not self._reading:
            self.regulate()

    def stop_reading(self) -> None:
        """Take no more commands; for the time when the link drains."""
        self._draining = True
        self.regulate()

    def _complain(self, gate: Gate) -> None:
        now = time.monotonic()
        if gate.refused and now - Client._complained_at > _COMPLAIN_INTERVAL:
            Client._complained_at = now
            peer = self._transport.get_extra_info("peername") if self._transport is not None else None
            logger.warning(
                "a client at %s gives a wrong user name or password",
                peer,
                extra=event("login_refused", client=peer, times=gate.refused),
            )
            gate.refused = 0

    def close(self) -> None:
        """Close after what was written has left."""
        if self._transport is not None:
            self._transport.close()
