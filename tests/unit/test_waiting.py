"""Clients that wait for data: who asks when, who is served first, and what ends a wait."""

from __future__ import annotations

import pytest

from trader_node.link import wire
from trader_node.link.waiting import WaitingRoom

from .test_session import Client, Hub, words

NIL = wire.NIL_ARRAY
POPPED = b"*2\r\n$1\r\nk\r\n$1\r\na\r\n"


@pytest.fixture
def hub() -> Hub:
    return Hub()


def waiting(hub: Hub, command: str) -> Client:
    """Return a client that has asked once and found nothing."""
    client = Client(hub).sends(command)
    hub.answer_write(NIL)
    assert client.told == b""
    return client


def asked(hub: Hub) -> list[str]:
    log, hub.log[:] = list(hub.log), []
    return log


def test_what_is_there_already_comes_at_once(hub: Hub) -> None:
    client = Client(hub).sends("BLPOP k 0")
    assert asked(hub) == ["write BLPOP k 0"]
    hub.answer_write(POPPED)
    assert client.told == POPPED
    assert not hub.waiting


def test_a_push_is_followed_at_once_by_the_pop(hub: Hub) -> None:
    client = waiting(hub, "BLPOP k 0")
    Client(hub).sends("RPUSH other x").sends("RPUSH k a")
    assert asked(hub) == ["write BLPOP k 0", "write RPUSH other x", "write RPUSH k a", "write BLPOP k 0"]
    for reply in (b":1\r\n", b":1\r\n", POPPED):
        hub.answer_write(reply)
    assert client.told == POPPED
    assert not hub.waiting


def test_a_push_inside_a_transaction_or_a_batch_counts(hub: Hub) -> None:
    waiting(hub, "BLPOP k 0")
    Client(hub).sends("MULTI", "SET x 1", "RPUSH k a", "EXEC")
    assert asked(hub)[-1] == "write BLPOP k 0"


def test_who_came_first_is_served_first_and_the_next_asks_then(hub: Hub) -> None:
    first, second = waiting(hub, "BLPOP k 0"), Client(hub).sends("BLPOP k 0")
    # The second does not even ask: the first would be served before.
    assert asked(hub) == ["write BLPOP k 0"]
    Client(hub).sends("RPUSH k a b")
    assert asked(hub) == ["write RPUSH k a b", "write BLPOP k 0"]
    hub.answer_write(b":2\r\n")
    hub.answer_write(POPPED)
    assert (first.told, second.told) == (POPPED, b"")
    assert asked(hub) == ["write BLPOP k 0"]
    hub.answer_write(POPPED)
    assert second.told == POPPED
    assert not hub.waiting


def test_a_push_behind_a_pop_under_way_is_not_missed(hub: Hub) -> None:
    client = Client(hub).sends("BLPOP k 0")
    Client(hub).sends("RPUSH k a")
    assert asked(hub) == ["write BLPOP k 0", "write RPUSH k a"]
    hub.answer_write(NIL)
    hub.answer_write(b":1\r\n")
    assert asked(hub) == ["write BLPOP k 0"]
    hub.answer_write(POPPED)
    assert client.told == POPPED


def test_of_several_keys_only_those_are_asked_for_where_nobody_is_before(hub: Hub) -> None:
    waiting(hub, "BLPOP a 0")
    Client(hub).sends("BLPOP a b c 7")
    Client(hub).sends("BZMPOP 7 2 a z MIN")
    Client(hub).sends("BLMPOP 7 2 a d LEFT")
    assert asked(hub)[1:] == ["write BLPOP b c 7", "write BZMPOP 7 2 a z MIN", "write BLMPOP 7 1 d LEFT"]


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        ("BLPOP k 1.5", 1.5),
        ("BRPOPLPUSH k d 2", 2.0),
        ("BLMOVE k d LEFT LEFT .5", 0.5),
        ("BZPOPMIN k 3", 3.0),
        ("BLMPOP 4 1 k LEFT", 4.0),
        ("XREADGROUP GROUP g c BLOCK 250 STREAMS k >", 0.25),
    ],
)
def test_a_wait_ends_with_nil_when_its_time_is_up(hub: Hub, command: str, seconds: float) -> None:
    client = waiting(hub, command)
    ((found, expire),) = hub.timers
    assert found == seconds
    expire()
    assert client.told == NIL
    assert not hub.waiting
    assert hub.timers == []


@pytest.mark.parametrize("timeout", ["x", "-1", "1e400", "nan", "1_0", ""])
def test_redis_says_what_is_wrong_with_a_timeout(hub: Hub, timeout: str) -> None:
    waiting(hub, "BLPOP k 0")
    client = Client(hub)
    client.session.receive(wire.encode_command("BLPOP", "k", timeout))
    hub.answer_write(b"-ERR timeout\r\n")
    assert client.told == b"-ERR timeout\r\n"


def test_time_up_while_a_pop_is_under_way(hub: Hub) -> None:
    client = Client(hub).sends("BLPOP k 1")
    hub.timers[0][1]()
    assert client.told == b""
    hub.answer_write(POPPED)
    assert client.told == POPPED


def test_what_a_client_sends_behind_a_wait_waits(hub: Hub) -> None:
    client = waiting(hub, "BLPOP k 1").sends("SET a 1").sends("GET a", "PING")
    assert asked(hub) == ["write BLPOP k 1"]
    hub.timers[0][1]()
    assert asked(hub) == ["write SET a 1"]
    hub.answer_write(wire.OK)
    hub.answer_read(b"$1\r\n1\r\n")
    assert client.told == NIL + b"+OK\r\n$1\r\n1\r\n+PONG\r\n"


def test_client_that_goes_waits_no_longer_and_makes_room_for_the_next(hub: Hub) -> None:
    first, second = waiting(hub, "BLPOP k 0"), Client(hub).sends("BLPOP k 0")
    first.session.receive(wire.encode_command("SET", "behind", "1"))
    first.session.disconnected()
    assert asked(hub) == ["write BLPOP k 0", "write BLPOP k 0", "write SET behind 1"]
    hub.answer_write(POPPED)
    assert second.told == POPPED
    assert not hub.waiting


def test_client_that_goes_while_its_pop_is_under_way(hub: Hub) -> None:
    client = Client(hub).sends("BLPOP k 0")
    client.session.disconnected()
    hub.answer_write(POPPED)
    assert client.told == b""
    assert not hub.waiting


def test_a_moved_element_wakes_who_waits_for_it(hub: Hub) -> None:
    waiting(hub, "BLPOP d 0")
    mover = waiting(hub, "BLMOVE k d LEFT LEFT 0")
    asked(hub)
    Client(hub).sends("RPUSH k a")
    hub.answer_write(b":1\r\n")
    hub.answer_write(b"$1\r\na\r\n")
    assert mover.told == b"$1\r\na\r\n"
    assert asked(hub) == ["write RPUSH k a", "write BLMOVE k d LEFT LEFT 0", "write BLPOP d 0"]


def test_inside_multi_nothing_waits(hub: Hub) -> None:
    client = Client(hub).sends("MULTI", "BLPOP k 0", "XREAD BLOCK 0 STREAMS s 0", "EXEC")
    assert asked(hub) == ["write BLPOP k 0; XREAD BLOCK 0 STREAMS s 0"]
    hub.answer_write(b"*2\r\n*-1\r\n*-1\r\n")
    assert client.told == wire.OK + wire.QUEUED * 2 + b"*2\r\n*-1\r\n*-1\r\n"


def test_what_others_push_is_seen_at_the_next_look(hub: Hub) -> None:
    client = waiting(hub, "BLPOP k j 0")
    hub.waiting.look()
    hub.waiting.look()
    assert [words(read.payload) for read in hub.reads] == ["TYPE k", "TYPE j"]
    hub.answer_read(b"+none\r\n")
    hub.answer_read(b"+zset\r\n")
    assert client.told == b""
    hub.waiting.look()
    hub.answer_read(b"+none\r\n")
    asked(hub)
    hub.answer_read(b"+list\r\n")
    assert asked(hub) == ["write BLPOP k j 0"]
    hub.answer_write(POPPED)
    assert client.told == POPPED


def test_new_messages_for_a_group_are_seen_at_the_next_look(hub: Hub) -> None:
    waiting(hub, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >")
    group = [b"name", b"g", b"last-delivered-id", b"5-1"]
    groups = wire.join_array([wire.join_array([wire.encode_bulk(each) for each in group])])
    for entries, seen in ((wire.EMPTY_ARRAY, False), (b"*1\r\n*0\r\n", True)):
        hub.waiting.look()
        asked(hub)
        hub.answer_read(groups)
        assert asked(hub) == ["read XRANGE s (5-1 + COUNT 1"]
        hub.answer_read(entries)
        assert bool(asked(hub)) is seen


def test_a_group_that_is_gone_is_for_redis_to_tell(hub: Hub) -> None:
    client = waiting(hub, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >")
    hub.waiting.look()
    hub.answer_read(b"-ERR no such key\r\n")
    hub.answer_write(b"-NOGROUP No such key\r\n")
    assert client.told == b"-NOGROUP No such key\r\n"


# --- XREAD BLOCK -----------------------------------------------------------------------------------------------------


def test_a_blocking_read_has_a_connection_of_its_own(hub: Hub) -> None:
    client = Client(hub).sends("SELECT 3", "XREAD COUNT 2 BLOCK 0 STREAMS s t 5-0 0")
    (side,) = hub.sides
    assert side.connect() == ["SELECT 3", "XREAD COUNT 2 BLOCK 0 STREAMS s t 5-0 0"]
    side.take(wire.OK)
    side.take(b"*1\r\n+data\r\n")
    assert client.told == wire.OK + b"*1\r\n+data\r\n"
    client.sends("XREAD BLOCK 0 STREAMS s 0")
    assert len(hub.sides) == 1
    assert side.asked == ["SELECT 3", "XREAD BLOCK 0 STREAMS s 0"]


def test_the_last_id_is_looked_up_once(hub: Hub) -> None:
    client = Client(hub).sends("XREAD BLOCK 0 STREAMS s t $ $")
    assert asked(hub) == ["read XREVRANGE s + - COUNT 1", "read XREVRANGE t + - COUNT 1"]
    hub.answer_read(b"*1\r\n*2\r\n$3\r\n7-1\r\n*0\r\n")
    hub.answer_read(wire.EMPTY_ARRAY)
    (side,) = hub.sides
    # Asked again after a failover, with the same ids.
    for _ in range(2):
        assert side.connect() == ["SELECT 0", "XREAD BLOCK 0 STREAMS s t 7-1 0-0"]
        side.take(wire.OK)
    side.take(b"-UNBLOCKED force unblock from blocking operation\r\n")
    assert side.restarted
    side.connect()
    side.take(wire.OK)
    side.take(b"*1\r\n+data\r\n")
    assert client.told == b"*1\r\n+data\r\n"
    assert asked(hub) == []


def test_a_blocking_read_ends_in_time_without_a_master(hub: Hub) -> None:
    client = Client(hub).sends("XREAD BLOCK 1000 STREAMS s 0")
    ((seconds, expire),) = hub.timers
    assert 1.0 < seconds < 1.5
    expire()
    assert client.told == NIL
    assert hub.sides[0].closed
    assert hub.timers == []


def test_client_that_goes_takes_its_connection_with_it(hub: Hub) -> None:
    client = Client(hub).sends("XREAD BLOCK 0 STREAMS s 0").sends("SET behind 1")
    client.session.disconnected()
    assert hub.sides[0].closed
    assert asked(hub) == ["write SET behind 1"]


def test_nobody_asks_while_there_is_no_master(hub: Hub) -> None:
    """By the time of an answer the client may be gone, and an element would be taken for nobody."""
    ready = False
    hub.waiting = WaitingRoom(hub._accept, hub.submit_read, hub.call_later, lambda: ready)
    client = Client(hub).sends("BLPOP k 0")
    assert asked(hub) == []
    client.session.disconnected()
    assert not hub.waiting
    client = Client(hub).sends("BLPOP k 0")
    ready = True
    hub.waiting.look()
    assert asked(hub) == ["read TYPE k"]
    hub.answer_read(b"+list\r\n")
    assert asked(hub) == ["write BLPOP k 0"]
    hub.answer_write(POPPED)
    assert client.told == POPPED


@pytest.mark.parametrize("key", [b"k", b"two\r\nlines", b"", b"$1"])
def test_a_push_is_noticed_whatever_the_key_looks_like(hub: Hub, key: bytes) -> None:
    client = Client(hub)
    client.session.receive(wire.encode_command(b"BLPOP", key, b"0"))
    hub.answer_write(NIL)
    hub.log.clear()
    Client(hub).session.receive(wire.encode_command(b"RPUSH", key, b"x"))
    assert [line.split()[1] for line in hub.log] == ["RPUSH", "BLPOP"]
    client.session.disconnected()
    hub.answer_write(b":1\r\n")
    hub.answer_write(NIL)
    assert not hub.waiting
