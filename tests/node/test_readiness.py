"""Whether Redis answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from trader_node.readiness import answers

Answering = Callable[[bytes], int]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Starts servers that give one answer to whatever they are asked."""
    servers: list[socket.socket] = []

    def start(answer: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                assert b"trader-DESK-1:" in connection.recv(1000)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        port: int = server.getsockname()[1]
        return port

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"$-1\r\n", True),
        (b"-NOPERM no permission\r\n", True),
        (b"-LOADING Redis is loading the dataset in memory\r\n", False),
        (b"-MASTERDOWN Link with MASTER is down\r\n", False),
        (b"", False),
    ],
)
def test_only_a_server_that_is_not_there_yet_is_waited_for(answering: Answering, answer: bytes, expected: bool) -> None:
    assert answers("127.0.0.1", answering(answer), "DESK-1") is expected


def test_nothing_there_is_no_answer() -> None:
    assert not answers("127.0.0.1", 1, "DESK-1")


def test_silence_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not answers("127.0.0.1", server.getsockname()[1], "DESK-1", timeout=0.1)
