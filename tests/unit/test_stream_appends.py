"""``XADD *`` where the stream is ahead of the link's clock."""

from __future__ import annotations

import pytest

from trader_node.link import wire
from trader_node.link.commands import StreamIds, classify
from trader_node.link.stream_appends import seed

from .test_session import Client, Hub

TOO_SMALL = b"-ERR The ID specified in XADD is equal or smaller than the target stream top item\r\n"
NO_KEY = b"-ERR no such key\r\n"


def info(last: str) -> bytes:
    fields = [b"length", 1, b"last-generated-id", last.encode(), b"first-entry", b"x"]
    return wire.join_array(
        [wire.encode_bulk(each) if isinstance(each, bytes) else wire.encode_integer(each) for each in fields]
    )


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def client(hub: Hub) -> Client:
    return Client(hub)


def test_message_is_added_behind_what_is_there(hub: Hub, client: Client) -> None:
    client.sends("SELECT 3").sends("XADD s * f v").sends("GET a")
    hub.answer_write(TOO_SMALL)
    assert hub.log == ["write XADD s 1000-0 f v", "read XINFO STREAM s"]
    assert hub.reads[0].db == 3
    hub.answer_read(info("5000-7"))
    assert hub.log[2:] == ["write XADD s 5000-8 f v"]
    assert (hub.writes[0].db, hub.writes[0].end_db) == (3, 3)
    assert client.told == wire.OK
    hub.answer_write(b"$6\r\n5000-8\r\n")
    assert client.told == b"$6\r\n5000-8\r\n"
    # What the client sent meanwhile comes behind it.
    assert hub.log[3:] == ["read GET a"]


def test_ids_follow_until_the_clock_has_passed_the_stream(hub: Hub, client: Client) -> None:
    client.sends("XADD s * f v")
    hub.answer_write(TOO_SMALL)
    hub.answer_read(info("5000-7"))
    hub.answer_write(wire.OK)
    client.sends("XADD s MAXLEN ~ 5 * f v", "XADD other * f v")
    hub.now_ms = 5_001
    client.sends("XADD s * f v")
    assert hub.log[3:] == [
        "write XADD s MAXLEN = 5 5000-9 f v",
        "write XADD other 1000-3 f v",
        "write XADD s 5001-0 f v",
    ]


def test_nothing_overtakes_and_the_error_is_told_where_more_is_behind(hub: Hub, client: Client) -> None:
    client.sends("XADD s * f a").sends("SET done 1")
    hub.answer_write(TOO_SMALL)
    hub.answer_read(info("5000-7"))
    hub.answer_write(wire.OK)
    assert client.told == TOO_SMALL + wire.OK
    client.sends("XADD s * f b")
    assert hub.log[-1] == "write XADD s 5000-8 f b"


def test_somebody_elses_clock_that_runs_ahead_does_not_keep_it_for_ever(hub: Hub, client: Client) -> None:
    client.sends("XADD s * f a")
    for last in range(3):
        hub.answer_write(TOO_SMALL)
        hub.answer_read(info(f"500{last}-0"))
    hub.answer_write(TOO_SMALL)
    hub.answer_read(info("6000-0"))
    assert client.told == TOO_SMALL
    client.sends("PING")
    assert client.told == wire.PONG


def test_refused_question_is_no_end(hub: Hub, client: Client) -> None:
    client.sends("XADD s * f a")
    while hub.writes:
        hub.answer_write(TOO_SMALL)
        hub.answer_read(NO_KEY)
    assert client.told == TOO_SMALL


@pytest.mark.parametrize("command", ["XADD s 5-1 f v", "XADD s 5-* f v"])
def test_ids_of_the_clients_own_are_its_own_business(hub: Hub, client: Client, command: str) -> None:
    client.sends(command)
    hub.answer_write(TOO_SMALL)
    assert client.told == TOO_SMALL
    assert hub.reads == []


def test_transaction_is_told_and_the_next_one_works(hub: Hub, client: Client) -> None:
    queued = ["MULTI", "XADD s * f a", "SELECT 2", "XADD t * f a", "XADD t * f b", "EXEC"]
    client.sends(*queued)
    reply = wire.join_array([TOO_SMALL, wire.OK, TOO_SMALL, TOO_SMALL])
    hub.answer_write(reply)
    assert hub.log[1:] == ["read XINFO STREAM s"]
    hub.answer_read(info("5000-7"))
    assert (hub.log[2:], hub.reads[0].db) == (["read XINFO STREAM t"], 2)
    hub.answer_read(info("6000-0"))
    assert client.told.endswith(reply)
    client.sends(*queued)
    assert hub.log[-1] == "write XADD s 5000-8 f a; SELECT 2; XADD t 6000-1 f a; XADD t 6000-2 f b"


def test_message_of_a_client_that_is_gone_is_added_all_the_same(hub: Hub, client: Client) -> None:
    client.sends("XADD s * f v").session.disconnected()
    hub.answer_write(TOO_SMALL)
    hub.answer_read(info("5000-7"))
    assert hub.log[-1] == "write XADD s 5000-8 f v"


def test_ids_grow_over_a_restart_with_the_clock_set_back() -> None:
    earlier = StreamIds()
    written = [classify(tuple(text.encode().split()), 10_000, earlier).arguments for text in ("XADD s * f v",) * 3]
    journal = [
        wire.encode_command(b"XADD", b"old", b"9000-0", b"f", b"v"),
        *[wire.encode_command(*each) for each in written],
        wire.encode_command(b"SET", b"XADD", b"1") + wire.encode_command(b"xadd", b"t", b"9500-5", b"f", b"v"),
        wire.encode_command(b"SET", b"a", b"1"),
    ]
    ids = StreamIds()
    seed(ids, reversed(journal), 9_200)
    given = [classify((b"XADD", key, b"*", b"f", b"v"), 9_200, ids).arguments[2] for key in (b"s", b"t", b"old")]
    assert given == [b"10000-3", b"9500-6", b"9200-2"]
