"""A peer that goes on taking bytes is told from one that takes none, and from one that took them all."""

from __future__ import annotations

import asyncio
import socket

from drills.waiting import wait_until
from trader_node.link.transmission import Transmission


class Watched:
    """A connection with a peer that reads when the test says so."""

    def __init__(self, listener: socket.socket) -> None:
        self.near = socket.create_connection(listener.getsockname())
        self.peer = listener.accept()[0]
        self.near.setblocking(False)
        self.transmission = Transmission()
        self.now = 0.0

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self.near

    def look(self) -> float:
        self.now += 1.0
        return self.transmission.look(self, self.now)  # type: ignore[arg-type]

    def fill(self) -> None:
        """Send until the kernel takes no more."""
        try:
            while True:
                self.near.send(bytes(1 << 20))
        except BlockingIOError:
            pass


def test_only_a_peer_that_takes_bytes_moves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        watched = Watched(listener)
        with watched.near, watched.peer:
            assert watched.look() == 0.0, "nothing was sent"
            watched.near.send(b"PING")
            assert watched.peer.recv(4) == b"PING"
            assert watched.look() == 0.0, "what was taken whole is no reason to wait for"
            watched.fill()
            wait_until(lambda: watched.look() < watched.now, 10, "the peer's kernel takes no more", 0.05)
            stopped = watched.look()
            for _ in range(3):
                assert watched.look() == stopped, "nothing moves"
            for _ in range(3):
                taken = sum(len(watched.peer.recv(1 << 18)) for _ in range(8))
                assert taken
                watched.fill()
                before = watched.now
                wait_until(lambda before=before: watched.look() > before, 10, "it is seen to move", 0.05)  # type: ignore[misc]


def test_a_connection_that_is_closed_is_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        watched = Watched(listener)
        watched.near.close()
        watched.peer.close()
        assert watched.look() == 0.0


def test_a_transport_of_asyncio_tells_its_socket() -> None:
    async def look() -> float:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(bytes(1 << 25))
            transmission = Transmission()
            moved = transmission.look(writer.transport, 5.0)
            writer.transport.abort()
            return moved

    assert asyncio.run(look()) == 5.0
