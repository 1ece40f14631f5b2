"""SPOP: random members are asked for, and an entry removes just those."""

from __future__ import annotations

import pytest

from trader_node.link import wire
from trader_node.link.entries import LOST_REPLY

from .test_session import ABORTED, Client, Hub


def bulks(*members: str) -> bytes:
    return wire.join_array([wire.encode_bulk(member.encode()) for member in members])


def removed(*counts: int) -> bytes:
    return wire.join_array([wire.encode_integer(count) for count in counts])


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def client(hub: Hub) -> Client:
    return Client(hub)


def test_one_member(hub: Hub, client: Client) -> None:
    client.sends("SPOP s", "SET a 1")
    assert hub.log == ["read SRANDMEMBER s"]
    hub.answer_read(b"$1\r\nx\r\n")
    assert hub.log[1:] == ["write SREM s x"]
    assert client.told == b""
    hub.answer_write(removed(1))
    assert client.told == b"$1\r\nx\r\n"
    assert hub.log[2:] == ["write SET a 1"]


def test_it_waits_for_the_clients_own_writes(hub: Hub, client: Client) -> None:
    client.sends("SADD s x", "SPOP s")
    assert hub.log == ["write SADD s x"]
    hub.answer_write(b":1\r\n")
    assert hub.log[1:] == ["read SRANDMEMBER s"]


def test_another_client_was_faster(hub: Hub, client: Client) -> None:
    client.sends("SPOP s")
    hub.answer_read(b"$1\r\nx\r\n")
    hub.answer_write(removed(0))
    assert client.told == b""
    hub.answer_read(b"$1\r\ny\r\n")
    hub.answer_write(removed(1))
    assert client.told == b"$1\r\ny\r\n"


def test_several_members(hub: Hub, client: Client) -> None:
    client.sends("SPOP s 3")
    hub.answer_read(bulks("x", "y", "z"))
    assert hub.log == ["read SRANDMEMBER s 3", "write SREM s x; SREM s y; SREM s z"]
    hub.answer_write(removed(1, 0, 1))
    assert hub.log[2:] == ["read SRANDMEMBER s 1"]
    hub.answer_read(wire.EMPTY_ARRAY)
    assert client.told == bulks("x", "z")


@pytest.mark.parametrize(
    ("command", "nothing"), [("SPOP s", b"$-1\r\n"), ("SPOP s 3", wire.EMPTY_ARRAY), ("SPOP s 0", wire.EMPTY_ARRAY)]
)
def test_nothing_to_remove_is_no_entry(hub: Hub, client: Client, command: str, nothing: bytes) -> None:
    client.sends(command)
    hub.answer_read(nothing)
    assert client.told == nothing
    assert hub.writes == []


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("SPOP s -1", b"-ERR value is out of range, must be positive\r\n"),
        ("SPOP s x", b"-ERR value is out of range, must be positive\r\n"),
        ("SPOP s 1 2", b"-ERR syntax error\r\n"),
        ("SPOP", b"-ERR wrong number of arguments for 'spop' command\r\n"),
    ],
)
def test_mistakes(hub: Hub, client: Client, command: str, error: bytes) -> None:
    assert client.sends(command).told == error
    assert hub.log == []


def test_wrong_type(hub: Hub, client: Client) -> None:
    error = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    client.sends("SPOP s")
    hub.answer_read(error)
    assert client.told == error
    client.sends("SPOP s")
    hub.answer_read(b"$1\r\nx\r\n")
    hub.answer_write(wire.join_array([error]))
    assert client.told == error


def test_a_lost_answer_is_told(hub: Hub, client: Client) -> None:
    client.sends("SPOP s 2")
    hub.answer_read(bulks("x", "y"))
    hub.answer_write(wire.join_array([LOST_REPLY, LOST_REPLY]))
    assert client.told == LOST_REPLY


def test_inside_multi_it_is_refused(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "SPOP s")
    assert b"use SRANDMEMBER and then SREM" in client.told
    assert client.sends("EXEC").told == ABORTED


def test_client_that_goes(hub: Hub, client: Client) -> None:
    client.sends("SPOP s", "SET behind 1")
    client.session.disconnected()
    hub.answer_read(b"$1\r\nx\r\n")
    hub.answer_write(removed(1))
    assert hub.log[2:] == ["write SET behind 1"]
