"""Whether bytes still travel to a peer: one that takes them is not silent, however long an answer takes.

The kernel tells how many bytes the peer has acknowledged (``struct tcp_info`` of ``linux/tcp.h``, since Linux 4.1).
That is exact whatever the transport, TLS and the kernel's own buffers hold: what is in them has not been sent.
"""

from __future__ import annotations

import asyncio
import socket
import struct

#: Segments that are sent and not acknowledged; then bytes acknowledged; then bytes that are not sent yet.
_UNACKNOWLEDGED = struct.Struct("@24xI")
_ACKNOWLEDGED = struct.Struct("@120xQ")
_UNSENT = struct.Struct("@144xI")


class Transmission:
    """The bytes on their way over one TCP connection."""

    def __init__(self) -> None:
        self._acknowledged = 0
        #: When a peer that still has bytes to get was last seen to take some; monotonic seconds.
        self.moved_at = 0.0

    def look(self, transport: asyncio.Transport, now: float) -> float:
        """Take note of how far it is, and return :attr:`moved_at`.

        What was taken whole does not count: the kernel of a frozen peer takes small requests as well.
        """
        connected = transport.get_extra_info("socket")
        if connected is None or connected.fileno() < 0:
            return self.moved_at
        info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNSENT.size)
        if len(info) < _UNSENT.size:
            return self.moved_at
        before, self._acknowledged = self._acknowledged, _ACKNOWLEDGED.unpack_from(info)[0]
        on_the_way = _UNACKNOWLEDGED.unpack_from(info)[0] or _UNSENT.unpack_from(info)[0]
        if on_the_way and self._acknowledged > before:
            self.moved_at = now
        return self.moved_at
