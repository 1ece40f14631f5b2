"""Clients' connections: when the link reads from them and when it leaves their sockets to fill up."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from trader_node.link import wire
from trader_node.link.server import Client

from .test_session import Hub, packed


class Transport:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.reading = True
        self.closing = False
        self.out = b""

    def write(self, data: bytes) -> None:
        self.out += data

    def close(self) -> None:
        self.closing = True

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 50_000) if name == "peername" else None

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert self.reading
        assert not self.closing
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        assert not self.closing
        self.reading = True


class Clients:
    """Registers connections."""

    def __init__(self) -> None:
        self.gone: list[Client] = []

    def opened(self, client: Client) -> int:
        return 1

    def closed(self, client: Client) -> None:
        self.gone.append(client)


class Connection:
    """A client's connection over a transport of the test."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.clients = Clients()
        self.transport = Transport()
        self.client = Client(self.hub, self.clients)
        self.client.connection_made(cast(asyncio.Transport, self.transport))

    def sends(self, *commands: str) -> None:
        self.client.data_received(packed(*commands))


@pytest.fixture
def connection() -> Connection:
    return Connection()


def test_client_with_a_long_backlog_is_read_again_when_it_is_worked_off(connection: Connection) -> None:
    connection.sends("SET a 1", *["GET a"] * 2000)
    assert not connection.transport.reading
    connection.hub.answer_write(wire.OK)
    assert connection.transport.reading


def test_backlog_that_is_worked_off_in_steps(connection: Connection) -> None:
    connection.sends("SET a 1", *["GET a", "SET a 1"] * 800)
    assert not connection.transport.reading
    for _ in range(300):
        connection.hub.answer_write(wire.OK)
        connection.hub.answer_read(wire.OK)
    assert connection.transport.reading


def test_client_that_asks_without_end_is_not_read_while_no_answers_come(connection: Connection) -> None:
    for _ in range(20):
        connection.sends(*["GET a"] * 1000)
    assert not connection.transport.reading
    for _ in range(10):
        connection.hub.answer_read(wire.OK * 1000)
    assert connection.transport.reading


def test_backlog_of_a_link_that_accepts_nothing(connection: Connection) -> None:
    connection.hub.accepting = False
    connection.sends(*["PING"] * 2000)
    assert not connection.transport.reading
    connection.hub.accepting = True
    assert connection.client.session is not None
    connection.client.session.resume()
    connection.client.regulate()
    assert connection.transport.reading
    assert connection.transport.out == wire.PONG * 2000


def test_client_that_does_not_read_its_replies(connection: Connection) -> None:
    connection.client.pause_writing()
    assert not connection.transport.reading
    connection.client.resume_writing()
    assert connection.transport.reading


def test_draining_link_takes_no_more_commands(connection: Connection) -> None:
    connection.client.pause_writing()
    connection.client.stop_reading()
    connection.client.resume_writing()
    assert not connection.transport.reading


def test_connection_that_is_closing_is_left_alone(connection: Connection) -> None:
    connection.sends("QUIT")
    assert connection.transport.closing
    connection.client.pause_writing()
    assert connection.transport.out == wire.OK


def test_client_that_goes_leaves_its_whole_commands(connection: Connection) -> None:
    connection.sends("GET a", "SET a 1")
    connection.client.connection_lost(None)
    assert connection.clients.gone == [connection.client]
    connection.hub.answer_read(wire.OK)
    assert connection.hub.log == ["read GET a", "write SET a 1"]
    connection.hub.answer_write(wire.OK)
    assert connection.transport.out == b""
