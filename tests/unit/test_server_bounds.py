"""What the server cannot read is refused before it is accepted; what slips through is refused, not sent for ever."""

from __future__ import annotations

import pytest

from trader_node.link import wire
from trader_node.link.decisions import Cause, Halt, Reconnect
from trader_node.link.entries import Form
from trader_node.link.identity import parse_identity
from trader_node.link.sequencer import Phase
from trader_node.link.server_bounds import SURE_BYTES, ServerBounds

from .test_sequencer import Master, Story
from .test_session import Client, Hub

MB = 1 << 20
UNREADABLE = "ERR Protocol error: invalid bulk length"


def settings(**values: int) -> bytes:
    flat = [wire.encode_bulk(word) for name, value in values.items() for word in (name.encode(), b"%d" % value)]
    return wire.join_array([each.replace(b"_", b"-") for each in flat])


def identified(reply: bytes) -> tuple[int | None, ServerBounds]:
    replies = Master().identity()
    framer = wire.ReplyFramer()
    framer.feed(replies)
    parts = []
    while (part := framer.next()) is not None:
        parts.append(part)
    identity = parse_identity([*parts[:-1], reply])
    return identity.databases, identity.bounds


# --- what the server tells -------------------------------------------------------------------------------------------


def test_bounds_are_those_of_the_server() -> None:
    # Redis tells them in an order of its own.
    told = settings(databases=16, client_query_buffer_limit=3 * MB, proto_max_bulk_len=2 * MB)
    assert identified(told) == (16, ServerBounds(2 * MB, 3 * MB))


@pytest.mark.parametrize("told", [b"-NOPERM no\r\n", b"*0\r\n", b"$-1\r\n", settings(proto_max_bulk_len=-1)])
def test_bounds_are_the_usual_ones_where_the_server_does_not_tell(told: bytes) -> None:
    assert identified(told) == (None, ServerBounds(512 * MB, 1024 * MB))


def test_sequencer_keeps_within_the_bounds() -> None:
    story = Story()
    story.link.connected(0.0)
    identity = story.master.identity()
    databases = wire.join_array([wire.encode_bulk(b"databases"), wire.encode_bulk(b"16")])
    assert identity.endswith(databases)
    told = settings(databases=16, proto_max_bulk_len=MB, client_query_buffer_limit=MB)
    answer, _ = story.receive(identity.removesuffix(databases) + told)
    story.take_over(answer)
    assert story.link.bounds == ServerBounds(MB, MB)
    for _ in range(3):
        story.accept("RPUSH a " + "x" * 330_000)
    assert len(story.pump()) == 2, "a transaction of all three would be more than it reads"


# --- what a client sends ---------------------------------------------------------------------------------------------


@pytest.fixture
def hub() -> Hub:
    return Hub(server_bounds=ServerBounds(argument=MB, request=3 * MB))


@pytest.fixture
def client(hub: Hub) -> Client:
    return Client(hub)


@pytest.mark.parametrize(
    "command", ["SET {} v", "SET k {}", "GET {}", "SET k {} EX 9", "PUBLISH c {}", "ECHO {}", "BLPOP {} 0"]
)
def test_an_argument_that_is_too_long_is_refused(hub: Hub, client: Client, command: str) -> None:
    client.sends(command.format("x" * (MB + 1)), "SET k v")
    assert hub.log == ["write SET k v"], "the client goes on"
    hub.answer_write(wire.OK)
    told = client.told
    assert told.startswith(b"-" + UNREADABLE.encode())
    assert b"proto-max-bulk-len is 1048576" in told
    assert told.endswith(b"\r\n+OK\r\n")
    assert not client.closed


def test_an_argument_of_just_that_length_is_taken(hub: Hub, client: Client) -> None:
    client.sends("SET k " + "x" * MB)
    assert len(hub.writes) == 1


def test_a_command_that_is_too_long_as_a_whole_is_refused(hub: Hub, client: Client) -> None:
    client.sends("RPUSH k " + " ".join(["x" * MB] * 3))
    assert hub.log == []
    assert b"client-query-buffer-limit is 3145728" in client.told


def test_commands_that_are_too_long_together_are_taken_one_by_one(hub: Hub, client: Client) -> None:
    client.sends(*["SET k " + "x" * (MB - 9)] * 3)
    assert [write.commands for write in hub.writes] == [1, 1, 1]


@pytest.mark.parametrize("in_one_go", [True, False])
def test_a_transaction_that_is_too_long_is_refused(hub: Hub, client: Client, in_one_go: bool) -> None:
    commands = ["MULTI", *["SET k " + "x" * (MB - 9)] * 3, "EXEC"]
    for batch in [commands] if in_one_go else [[command] for command in commands]:
        client.sends(*batch)
    assert hub.log == []
    told = client.told
    assert told.startswith(b"+OK\r\n" + wire.QUEUED * 3 + b"-EXECABORT")
    assert b"client-query-buffer-limit" in told
    client.sends("SET k v")
    assert hub.log == ["write SET k v"]


def test_a_transaction_with_a_command_that_is_too_long_is_refused(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "SET k " + "x" * (MB + 1), "EXEC")
    assert hub.log == []
    assert b"-EXECABORT" in client.told


def test_what_every_server_reads_is_not_looked_at() -> None:
    assert ServerBounds(MB, MB).least >= SURE_BYTES


# --- what slips through ----------------------------------------------------------------------------------------------


@pytest.fixture
def story() -> Story:
    story = Story()
    story.connect()
    return story


def unreadable(story: Story, place: int) -> object:
    """Answer a transaction as Redis does: the command in that place cannot be read, and nothing behind it is."""
    return story.receive(wire.OK + wire.QUEUED * place + wire.encode_error(UNREADABLE))[1]


def test_an_entry_that_redis_cannot_read_is_refused_and_the_others_are_applied(story: Story) -> None:
    for number in range(3):
        story.accept(f"RPUSH a {number}")
    story.pump()
    decision = unreadable(story, 1)
    assert isinstance(decision, Reconnect)
    assert UNREADABLE in decision.reason
    assert story.replies == {2: wire.encode_error(UNREADABLE)}
    assert ("void", 2) in story.log.records
    assert story.link.phase is Phase.OFFLINE
    story.connect()
    assert story.pump() == ["RPUSH a 0", "RPUSH a 2"]
    story.applied()
    assert sorted(story.replies) == [1, 2, 3]


def test_nothing_more_is_sent_on_a_connection_that_redis_closes(story: Story) -> None:
    seq = story.accept("RPUSH a 0")
    story.pump()
    sent = []
    entry = story.link.journal.entry(seq)

    def sink(reply: bytes) -> None:
        story.accept("RPUSH a 1")
        sent.append(story.link.next_group(story.now))

    entry.sink = sink
    unreadable(story, 0)
    assert sent == [b""]


def test_of_a_batch_only_the_command_that_redis_cannot_read_is_refused(story: Story) -> None:
    story.accept("RPUSH a 0", "RPUSH a 1", "RPUSH a 2", form=Form.BATCH)
    story.pump()
    assert isinstance(unreadable(story, 1), Reconnect)
    assert story.replies == {}
    story.connect()
    assert story.pump() == ["RPUSH a 0", "RPUSH a 2"]
    story.applied(b":1\r\n", b":2\r\n")
    assert story.replies == {1: b":1\r\n" + wire.encode_error(UNREADABLE) + b":2\r\n"}


@pytest.mark.parametrize("known", ["acknowledged", "told_early", "from_disk"])
def test_an_entry_that_a_client_may_know_of_is_not_dropped(story: Story, known: str) -> None:
    seq = story.accept("RPUSH a 0")
    setattr(story.link.journal.entry(seq), known, True)
    story.pump()
    decision = unreadable(story, 0)
    assert isinstance(decision, Halt)
    assert decision.cause is Cause.REPLAY_REFUSED
    assert "proto-max-bulk-len" in decision.reason
    assert ("void", seq) not in story.log.records
    assert story.link.journal.entry(seq).commands == 1


def test_commands_of_the_links_own_that_redis_cannot_read_blame_no_entry(story: Story) -> None:
    story.accept("RPUSH a 0")
    story.pump()
    assert isinstance(unreadable(story, 1), Reconnect)
    assert story.replies == {}
    story.connect()
    assert story.pump() == ["RPUSH a 0"]
