"""Subscriptions through the link: what is confirmed, what is allowed, and what a failover changes (nothing)."""

from __future__ import annotations

import pytest

from trader_node.link import wire

from .test_session import Client, FakeSide, Hub


def push(kind: str, name: str | None, count: int) -> bytes:
    shown = b"$-1\r\n" if name is None else wire.encode_bulk(name.encode())
    return wire.join_array([wire.encode_bulk(kind.encode()), shown, wire.encode_integer(count)])


def message(channel: str, text: str) -> bytes:
    return wire.join_array([wire.encode_bulk(each.encode()) for each in ("message", channel, text)])


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def client(hub: Hub) -> Client:
    return Client(hub)


@pytest.fixture
def side(hub: Hub, client: Client) -> FakeSide:
    """Return the connection of a client that is subscribed to ``a``."""
    client.sends("SUBSCRIBE a")
    (side,) = hub.sides
    assert side.connect() == ["SUBSCRIBE a"]
    side.take(push("subscribe", "a", 1))
    assert client.told == push("subscribe", "a", 1)
    return side


def test_confirmed_when_redis_has(hub: Hub, client: Client) -> None:
    client.sends("SUBSCRIBE a b")
    assert client.told == b""
    assert hub.sides[0].connect() == ["SUBSCRIBE a", "SUBSCRIBE b"]


def test_messages_pass(client: Client, side: FakeSide) -> None:
    side.take(message("a", "hello"))
    assert client.told == message("a", "hello")


def test_after_a_failover_all_is_subscribed_to_again_unnoticed(client: Client, side: FakeSide) -> None:
    client.sends("PSUBSCRIBE p*")
    side.take(push("psubscribe", "p*", 2))
    client.sends("SUBSCRIBE b")
    assert client.told == push("psubscribe", "p*", 2)
    # "b" was not confirmed before the connection broke.
    assert side.connect() == ["SUBSCRIBE a", "PSUBSCRIBE p*", "SUBSCRIBE b"]
    side.take(push("subscribe", "a", 1))
    side.take(message("a", "early"))
    side.take(push("psubscribe", "p*", 2))
    assert client.told == message("a", "early")
    side.take(push("subscribe", "b", 3))
    assert client.told == push("subscribe", "b", 3)


@pytest.mark.parametrize("command", ["GET x", "SET x 1", "MULTI", "SELECT 1", "CLIENT ID", "BLPOP k 0"])
def test_only_a_few_commands_are_allowed(hub: Hub, client: Client, side: FakeSide, command: str) -> None:
    name = command.split()[0].lower()
    expected = (
        f"-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in "
        "this context\r\n"
    )
    assert client.sends(command).told == expected.encode()
    assert hub.log == []


def test_ping(client: Client, side: FakeSide) -> None:
    assert client.sends("PING").told == b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    assert client.sends("PING hi").told == b"*2\r\n$4\r\npong\r\n$2\r\nhi\r\n"


def test_ping_keeps_its_place(client: Client, side: FakeSide) -> None:
    client.sends("SUBSCRIBE b", "PING")
    assert client.told == b""
    side.take(push("subscribe", "b", 2))
    assert client.told == push("subscribe", "b", 2) + b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"


def test_unsubscribing_from_everything(hub: Hub, client: Client, side: FakeSide) -> None:
    client.sends("SUBSCRIBE b")
    side.take(push("subscribe", "b", 2))
    client.sends("UNSUBSCRIBE", "GET x")
    assert side.asked == ["SUBSCRIBE b", "UNSUBSCRIBE a", "UNSUBSCRIBE b"]
    assert hub.log == []
    side.take(push("unsubscribe", "a", 1))
    side.take(push("unsubscribe", "b", 0))
    assert client.told == push("subscribe", "b", 2) + push("unsubscribe", "a", 1) + push("unsubscribe", "b", 0)
    assert side.closed
    assert hub.log == ["read GET x"]


@pytest.mark.parametrize("name", ["unsubscribe", "punsubscribe", "sunsubscribe"])
def test_unsubscribing_from_nothing(hub: Hub, client: Client, name: str) -> None:
    assert client.sends(name, "PING").told == push(name, None, 0) + wire.PONG
    assert hub.sides == []


def test_counts_are_of_channels_and_patterns(client: Client, side: FakeSide) -> None:
    assert client.sends("PUNSUBSCRIBE").told == push("punsubscribe", None, 1)
    assert client.sends("SUNSUBSCRIBE").told == push("sunsubscribe", None, 0)


def test_refused_by_an_acl(client: Client, side: FakeSide) -> None:
    error = b"-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"
    client.sends("SUBSCRIBE forbidden")
    side.take(error)
    assert client.told == error
    side.connect()
    assert not side.restarted
    assert side.greet() == wire.encode_command("SUBSCRIBE", "a")


def test_a_server_that_cannot_now_is_left(client: Client, side: FakeSide) -> None:
    client.sends("SUBSCRIBE b")
    side.take(b"-LOADING Redis is loading the dataset in memory\r\n")
    assert side.restarted
    assert client.told == b""
    assert side.connect() == ["SUBSCRIBE a", "SUBSCRIBE b"]


@pytest.mark.parametrize("command", ["RESET", "QUIT"])
def test_reset_and_quit_end_it(hub: Hub, client: Client, side: FakeSide, command: str) -> None:
    client.sends(command)
    if command == "RESET":
        assert client.told == b"+RESET\r\n"
        assert client.sends("PING").told == wire.PONG
    else:
        assert client.told == wire.OK
        assert client.closed
        client.session.disconnected()
    assert side.closed


def test_client_that_goes_takes_its_connection_with_it(client: Client, side: FakeSide) -> None:
    client.session.disconnected()
    assert side.closed


def test_messages_stay_at_redis_while_the_client_does_not_read_them(client: Client, side: FakeSide) -> None:
    client.session.pause(True)
    assert side.paused
    client.session.pause(False)
    assert not side.paused


def test_subscribing_waits_for_the_replies_before_it(hub: Hub, client: Client) -> None:
    client.sends("GET a", "SUBSCRIBE c")
    assert hub.sides == []
    hub.answer_read(b"$1\r\n1\r\n")
    (side,) = hub.sides
    side.connect()
    side.take(push("subscribe", "c", 1))
    assert client.told == b"$1\r\n1\r\n" + push("subscribe", "c", 1)


def test_arity(client: Client) -> None:
    assert client.sends("SUBSCRIBE").told == b"-ERR wrong number of arguments for 'subscribe' command\r\n"
    assert client.sends("PING").told == wire.PONG


def test_what_waited_until_it_could_be_accepted_is_answered_once(hub: Hub, client: Client, side: FakeSide) -> None:
    hub.accepting = False
    client.sends("PING", "PING b")
    hub.accepting = True
    client.session.resume()
    assert client.told == b"*2\r\n$4\r\npong\r\n$0\r\n\r\n" + b"*2\r\n$4\r\npong\r\n$1\r\nb\r\n"
    assert not client.closed
    assert client.session.backlog == 0
