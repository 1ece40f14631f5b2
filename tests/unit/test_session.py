"""One client's connection: what it sends, what the link makes of it, and what comes back in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from trader_node.link import wire
from trader_node.link.allowance import Allowance
from trader_node.link.commands import StreamIds
from trader_node.link.entries import LOST_REPLY, Entry, Form, Write
from trader_node.link.login import Login
from trader_node.link.reads import Read
from trader_node.link.scripts import ScriptMode
from trader_node.link.server_bounds import ServerBounds
from trader_node.link.session import Session
from trader_node.link.waiting import WaitingRoom

ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
OUT_OF_RANGE = b"-ERR DB index is out of range\r\n"
PROTOCOL_ERROR = b"-ERR Protocol error: commands must be RESP arrays of bulk strings\r\n"


class FakeSide:
    """A connection of one client's own, up when the test says so."""

    def __init__(self, greet: Callable[[], bytes], take: Callable[[bytes], None]) -> None:
        self.greet = greet
        self.take = take
        self.up = False
        self.closed = False
        self.paused = False
        self.restarted = ""
        self.sent: list[str] = []

    def connect(self) -> list[str]:
        """Make the connection (again); return what it was greeted with."""
        assert not self.closed
        self.up = True
        self.sent = [words(self.greet())]
        return self.asked

    @property
    def asked(self) -> list[str]:
        sent, self.sent = self.sent, []
        return [command for each in sent for command in each.split("; ") if command]

    def send(self, data: bytes) -> None:
        if self.up:
            self.sent.append(words(data))

    def pause(self, paused: bool) -> None:
        self.paused = paused

    def restart(self, reason: str) -> None:
        self.restarted = reason
        self.up = False

    def close(self) -> None:
        self.closed = True


@dataclass
class Hub:
    """Notes what is submitted, and answers when the test says so."""

    databases: int = 16
    marker_key: bytes = b"marker"
    server_bounds: ServerBounds = field(default_factory=ServerBounds)
    login: None = None
    allowance: Allowance = field(default_factory=Allowance)
    first_db: int = 0
    login: Login | None = None
    stream_ids: StreamIds = field(default_factory=StreamIds)
    accepting: bool = True
    now_ms: int = 1_000
    writes: list[Entry] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    #: Everything submitted, in order, in the words of the client.
    log: list[str] = field(default_factory=list)

    #: Timers as (seconds, function).
    timers: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    sides: list[FakeSide] = field(default_factory=list)
    others: list[Session] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.waiting = WaitingRoom(self._accept, self.submit_read, self.call_later)

    def call_later(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        timer = (seconds, function)
        self.timers.append(timer)
        return lambda: self.timers.remove(timer) if timer in self.timers else None

    def open_side(self, greet: Callable[[], bytes], take: Callable[[bytes], None]) -> FakeSide:
        self.sides.append(FakeSide(greet, take))
        return self.sides[-1]

    def sessions(self) -> list[Session]:
        return self.others

    def may_accept(self) -> bool:
        return self.accepting

    def wall_clock_ms(self) -> int:
        return self.now_ms

    def submit_write(self, write: Write) -> None:
        self._accept(write)
        self.waiting.wrote(write.payload)

    def _accept(self, write: Write) -> None:
        entry = Entry(0, write.db, write.end_db, write.form, write.commands, write.payload)
        entry.sink = write.sink
        self.writes.append(entry)
        self.log.append("write " + words(write.payload))

    def submit_read(self, read: Read) -> None:
        self.reads.append(read)
        self.log.append("read " + words(read.payload))

    def answer_write(self, reply: bytes) -> None:
        self.writes.pop(0).refuse(reply)

    def answer_read(self, reply: bytes) -> None:
        sink = self.reads.pop(0).sink
        assert sink is not None
        sink(reply)


def words(payload: bytes) -> str:
    framer = wire.ReplyFramer()
    framer.feed(payload)
    commands = []
    while (reply := framer.next()) is not None:
        arguments = wire.decode(reply)
        assert isinstance(arguments, list)
        commands.append(b" ".join(arguments).decode())
    return "; ".join(commands)


def packed(*commands: str) -> bytes:
    return b"".join(wire.encode_command(*command.split()) for command in commands)


class Client:
    """A session with a client who notes what it is told."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.out = b""
        self.closed = False
        self.progress = 0
        self.session = Session(hub, 7, self._take, self._closed, self._progressed)

    def _take(self, data: bytes) -> None:
        assert not self.closed, "written to after the end"
        self.out += data

    def _closed(self) -> None:
        self.closed = True

    def _progressed(self) -> None:
        self.progress += 1

    def sends(self, *commands: str) -> Client:
        self.session.receive(packed(*commands))
        return self

    @property
    def told(self) -> bytes:
        told, self.out = self.out, b""
        return told


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def client(hub: Hub) -> Client:
    return Client(hub)


# --- order -----------------------------------------------------------------------------------------------------------


def test_writes_sent_in_one_go_are_one_entry(hub: Hub, client: Client) -> None:
    client.sends("SET a 1", "rpush b 2", "DEL c")
    assert hub.log == ["write SET a 1; rpush b 2; DEL c"]
    assert (hub.writes[0].form, hub.writes[0].commands) == (Form.BATCH, 3)
    hub.writes[0].deliver([wire.OK, b":1\r\n", b":0\r\n"])
    assert client.told == b"+OK\r\n:1\r\n:0\r\n"


def test_reads_sent_in_one_go_are_asked_in_one(hub: Hub, client: Client) -> None:
    client.sends("GET a", "lrange b 0 -1", "SMEMBERS c")
    assert hub.log == ["read GET a; lrange b 0 -1; SMEMBERS c"]
    assert hub.reads[0].commands == 3
    hub.answer_read(b"$1\r\n1\r\n*0\r\n*0\r\n")
    assert client.told == b"$1\r\n1\r\n*0\r\n*0\r\n"


@pytest.mark.parametrize(
    "commands",
    [
        ["SET a 1", "GET a"],
        ["SET a 1", "SET b 2 EX 10"],
        ["SET a 1", "EXPIRE a 10"],
        ["SET a 1", "XADD s * f v"],
        ["GET a", "PUBLISH c m"],
        ["GET a", "XREAD STREAMS s 0"],
        ["SET a 1", "PING"],
        ["SET a 1", "NONSENSE"],
        ["MULTI", "SET a 1", "SET b 2 EX 10", "EXEC"],
        ["MULTI", "SET a 1", "GET a", "EXEC"],
        ["MULTI", "GET a", "EXEC"],
        ["MULTI", "SET marker 1", "EXEC"],
        ["SET a 1", "DEL marker"],
    ],
)
def test_whatever_comes_in_one_go_means_the_same_as_piece_by_piece(commands: list[str]) -> None:
    together, singly = Client(Hub()), Client(Hub())
    together.sends(*commands)
    for command in commands:
        singly.sends(command)
    assert together.hub.log == singly.hub.log
    assert together.told == singly.told


@pytest.mark.parametrize("before", [b"", b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"], ids=["alone", "behind a command"])
def test_map_that_holds_a_command_is_none(hub: Hub, client: Client, before: bytes) -> None:
    """A RESP3 map answers to [0] with what its key 0 holds: a read, with an EVAL around it."""
    client.sends("PING")
    client.session.receive(before + b"%2\r\n$4\r\nEVAL\r\n:1\r\n:0\r\n$3\r\nGET\r\n")
    assert not any("EVAL" in line for line in hub.log)


def test_batch_split_anywhere_by_the_network_is_the_same_writes(hub: Hub) -> None:
    commands = ["SET a 1", "RPUSH b 2", "MULTI", "SET c 3", "EXEC", "DEL d"]
    data = packed(*commands)
    for cut in range(1, len(data)):
        client = Client(Hub())
        client.session.receive(data[:cut])
        client.session.receive(data[cut:])
        assert "; ".join(client.hub.log).replace("write ", "") == "SET a 1; RPUSH b 2; SET c 3; DEL d"


def test_pipelined_writes_are_submitted_at_once_and_answered_in_order(hub: Hub, client: Client) -> None:
    client.sends("SET a 1").sends("RPUSH b 2").sends("DEL c")
    assert hub.log == ["write SET a 1", "write RPUSH b 2", "write DEL c"]
    assert client.told == b""
    hub.answer_write(wire.OK)
    hub.answer_write(b":1\r\n")
    assert client.told == b"+OK\r\n:1\r\n"
    hub.answer_write(b":0\r\n")
    assert client.told == b":0\r\n"


def test_replies_wait_for_those_before_them(hub: Hub, client: Client) -> None:
    client.sends("SET a 1", "SET b 2", "PING", "WATCH x")
    second = hub.writes.pop(1)
    second.refuse(b"+second\r\n")
    assert client.told == b""
    hub.answer_write(b"+first\r\n")
    told = client.told
    assert told.startswith(b"+first\r\n+second\r\n+PONG\r\n-ERR link: WATCH")


def test_read_waits_for_the_clients_own_write(hub: Hub, client: Client) -> None:
    client.sends("SET a 1", "GET a", "GET b", "SET c 3")
    assert hub.log == ["write SET a 1"]
    hub.answer_write(wire.OK)
    assert hub.log[1:] == ["read GET a", "read GET b"]
    hub.answer_read(b"$1\r\n1\r\n")
    assert len(hub.log) == 3, "b is not read yet"
    hub.answer_read(b"$-1\r\n")
    assert hub.log[3:] == ["write SET c 3"]
    hub.answer_write(wire.OK)
    assert client.told == b"+OK\r\n$1\r\n1\r\n$-1\r\n+OK\r\n"
    assert (client.session.backlog, client.session.unanswered) == (0, 0)


def test_what_needs_nobody_keeps_its_place_too(hub: Hub, client: Client) -> None:
    client.sends("SET a 1", "GET a", "PING", "SELECT 1", "SET b 2")
    hub.answer_write(wire.OK)
    assert client.told == wire.OK
    hub.answer_read(b"$1\r\n1\r\n")
    assert client.told == b"$1\r\n1\r\n+PONG\r\n+OK\r\n"
    assert hub.writes[0].db == 1


def test_other_clients_do_not_wait(hub: Hub) -> None:
    Client(hub).sends("SET a 1", "GET a")
    Client(hub).sends("GET a")
    assert hub.log == ["write SET a 1", "read GET a"]


def test_commands_may_come_in_any_pieces(hub: Hub, client: Client) -> None:
    for byte in packed("SET a 1", "MULTI", "SET b 2", "EXEC"):
        client.session.receive(bytes([byte]))
    assert hub.log == ["write SET a 1", "write SET b 2"]


def test_the_shell_hears_when_there_is_less_to_wait_for(hub: Hub, client: Client) -> None:
    client.sends("SET a 1", *["GET a", "SET a 2"] * 5)
    assert client.session.backlog == 10
    backlogs = []
    while hub.writes or hub.reads:
        before = client.progress
        hub.answer_write(wire.OK) if hub.writes else hub.answer_read(wire.OK)
        assert client.progress > before
        backlogs.append(client.session.backlog)
    assert backlogs == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]


def test_very_long_backlog_is_worked_off_without_recursion(hub: Hub, client: Client) -> None:
    hub.accepting = False
    client.sends(*["PING"] * 5_000, *["SET a 1"] * 5_000)
    hub.accepting = True
    client.session.resume()
    assert client.told == wire.PONG * 5_000
    assert len(hub.writes) == 5_000


# --- transactions ----------------------------------------------------------------------------------------------------


def test_transaction_is_one_entry(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "SET a 1", "GET a", "MSET b 2 c 3", "PING")
    assert client.told == wire.OK + wire.QUEUED * 4
    assert hub.log == []
    client.sends("EXEC")
    assert hub.log == ["write SET a 1; GET a; MSET b 2 c 3; PING"]
    (entry,) = hub.writes
    assert (entry.form, entry.commands) == (Form.TRANSACTION, 4)
    entry.deliver([wire.OK, b"$1\r\n1\r\n", wire.OK, wire.PONG])
    assert client.told == b"*4\r\n+OK\r\n$1\r\n1\r\n+OK\r\n+PONG\r\n"


def test_pipelined_transaction_whose_answer_was_lost_keeps_its_prefix(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "SET a 1", "INCR b", "EXEC", "PING")
    hub.writes[0].deliver_lost()
    assert client.told == wire.OK + wire.QUEUED * 2 + b"*2\r\n+OK\r\n" + LOST_REPLY + wire.PONG


def test_transaction_waits_for_the_clients_own_reads(hub: Hub, client: Client) -> None:
    client.sends("GET a", "MULTI", "SET a 1", "EXEC", "GET a")
    assert hub.log == ["read GET a"]
    hub.answer_read(b"$-1\r\n")
    assert hub.log[1:] == ["write SET a 1"]
    hub.answer_write(b"*1\r\n+OK\r\n")
    assert hub.log[2:] == ["read GET a"]
    assert client.told == b"$-1\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"


def test_empty_transaction(hub: Hub, client: Client) -> None:
    assert client.sends("MULTI", "EXEC").told == b"+OK\r\n*0\r\n"
    assert hub.log == []


def test_discard(hub: Hub, client: Client) -> None:
    assert client.sends("MULTI", "SET a 1", "DISCARD", "SET b 2").told == b"+OK\r\n+QUEUED\r\n+OK\r\n"
    assert hub.log == ["write SET b 2"]


@pytest.mark.parametrize("refused", ["SUBSCRIBE c", "NONSENSE", "ECHO", "EVAL x 0", "SELECT 99", "AUTH p"])
def test_refused_command_aborts_the_transaction(hub: Hub, client: Client, refused: str) -> None:
    told = client.sends("MULTI", "SET a 1", refused, "SET b 2", "EXEC").told
    assert told.startswith(wire.OK + wire.QUEUED + b"-")
    assert told.endswith(wire.QUEUED + ABORTED)
    assert hub.log == []
    # And only that one.
    assert client.sends("MULTI", "SET a 1").sends("EXEC").told == wire.OK + wire.QUEUED
    assert hub.log == ["write SET a 1"]


def test_refused_command_before_multi_does_not_count(hub: Hub, client: Client) -> None:
    client.sends("NONSENSE", "MULTI", "SET a 1", "EXEC")
    assert hub.log == ["write SET a 1"]


@pytest.mark.parametrize(
    ("commands", "error"),
    [
        (["EXEC"], b"-ERR EXEC without MULTI\r\n"),
        (["DISCARD"], b"-ERR DISCARD without MULTI\r\n"),
        (["MULTI", "MULTI"], b"+OK\r\n-ERR MULTI calls can not be nested\r\n"),
    ],
)
def test_transaction_commands_out_of_place(client: Client, commands: list[str], error: bytes) -> None:
    assert client.sends(*commands).told == error


def test_expiry_inside_a_transaction_is_pinned(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "EXPIRE a 5", "EXEC")
    assert hub.log == ["write PEXPIREAT a 6000"]


def test_expiry_inside_a_transaction_counts_from_its_end(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "EXPIRE a 5", "SET b 1 PX 10")
    hub.now_ms += 500
    client.sends("EXEC")
    assert hub.log == ["write PEXPIREAT a 6500; SET b 1 PXAT 1510"]


def test_ids_inside_a_transaction_are_given_at_its_end(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "XADD s * f a", "XADD s * f b")
    Client(hub).sends("XADD s * f first")
    client.sends("EXEC")
    ids = [tuple(map(int, word.split("-"))) for line in hub.log for word in line.split() if "-" in word]
    assert len(ids) == 3
    assert ids == sorted(set(ids))


# --- databases -------------------------------------------------------------------------------------------------------


def test_clients_begin_in_the_database_of_the_connection_string() -> None:
    hub = Hub(first_db=3)
    client = Client(hub).sends("SET a 1").sends("SELECT 0").sends("SET b 2").sends("RESET").sends("SET c 3")
    assert [(entry.db, words(entry.payload)) for entry in hub.writes] == [
        (3, "SET a 1"),
        (0, "SET b 2"),
        (3, "SET c 3"),
    ]
    del client


def test_pipelined_transactions_are_one_entry_each(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "SET a 1", "INCR b", "EXEC", "SET c 3", "MULTI", "SET d 4", "EXEC", "MULTI", "SET e 5")
    assert hub.log == ["write SET a 1; INCR b", "write SET c 3", "write SET d 4"]
    hub.writes.pop(0).deliver([wire.OK, b":1\r\n"])
    hub.answer_write(wire.OK)
    hub.writes.pop(0).deliver([wire.OK])
    first = wire.OK + wire.QUEUED * 2 + b"*2\r\n+OK\r\n:1\r\n"
    assert client.told == first + wire.OK + wire.OK + wire.QUEUED + b"*1\r\n+OK\r\n" + wire.OK + wire.QUEUED
    client.sends("EXEC")
    assert hub.log[3:] == ["write SET e 5"]


def test_select_is_remembered(hub: Hub, client: Client) -> None:
    assert client.sends("SELECT 3", "SET a 1").told == wire.OK
    assert (hub.writes[0].db, hub.writes[0].end_db) == (3, 3)
    hub.answer_write(wire.OK)
    client.sends("GET a")
    assert hub.reads[0].db == 3


@pytest.mark.parametrize("number", ["16", "-1", "x", "", "1.0", "9" * 5_000])
def test_select_out_of_range(hub: Hub, client: Client, number: str) -> None:
    client.session.receive(wire.encode_command("SELECT", number) + packed("SET a 1"))
    assert client.told == OUT_OF_RANGE
    assert hub.writes[0].db == 0


def test_select_inside_a_transaction(hub: Hub, client: Client) -> None:
    client.sends("SELECT 1", "MULTI", "SET a 1", "SELECT 4", "SET b 2", "EXEC", "SET c 3")
    assert hub.log == ["write SET a 1; SELECT 4; SET b 2"]
    assert (hub.writes[0].db, hub.writes[0].end_db) == (1, 4)
    hub.answer_write(b"*3\r\n+OK\r\n+OK\r\n+OK\r\n")
    assert hub.writes[0].db == 4


def test_select_inside_a_transaction_that_is_discarded_has_no_effect(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "SELECT 4", "DISCARD", "SET a 1")
    assert hub.writes[0].db == 0


def test_select_inside_a_transaction_that_redis_aborts_has_no_effect(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "SELECT 4", "SET a", "EXEC", "SET b 2", "MULTI", "SET c 3", "EXEC")
    hub.answer_write(ABORTED)
    assert [entry.db for entry in hub.writes] == [0, 0]
    assert [entry.end_db for entry in hub.writes] == [0, 0]


def test_reset(hub: Hub, client: Client) -> None:
    told = client.sends("SELECT 3", "CLIENT SETNAME x", "MULTI", "RESET", "CLIENT GETNAME", "EXEC", "SET a 1").told
    assert told == wire.OK * 3 + b"+RESET\r\n$-1\r\n-ERR EXEC without MULTI\r\n"
    assert hub.writes[0].db == 0


# --- the link cannot accept ------------------------------------------------------------------------------------------


def test_commands_wait_until_they_may_be_accepted(hub: Hub, client: Client) -> None:
    hub.accepting = False
    client.sends("PING", "MULTI", "SET a 1", "EXEC", "GET a")
    assert (client.told, hub.log, client.session.backlog) == (b"", [], 5)
    client.session.resume()
    assert client.session.backlog == 5
    hub.accepting = True
    client.session.resume()
    assert hub.log == ["write SET a 1"]
    assert client.told == wire.PONG + wire.OK + wire.QUEUED
    hub.answer_write(b"*1\r\n+OK\r\n")
    assert hub.log[1:] == ["read GET a"]


def test_bound_may_be_reached_again_in_the_middle_of_the_backlog(hub: Hub, client: Client) -> None:
    hub.accepting = False
    client.sends("SET a 1", "SET b 2", "SET c 3")
    states = iter([True, False])
    hub.may_accept = lambda: next(states)  # type: ignore[method-assign]
    client.session.resume()
    assert hub.log == ["write SET a 1"]
    hub.may_accept = lambda: True  # type: ignore[method-assign]
    hub.answer_write(wire.OK)
    assert hub.log[1:] == ["write SET b 2", "write SET c 3"]


# --- a client that goes ----------------------------------------------------------------------------------------------


def test_client_gone_in_the_middle_of_multi(hub: Hub, client: Client) -> None:
    client.sends("MULTI", "SET a 1")
    client.session.disconnected()
    assert hub.log == []


def test_client_gone_after_half_a_command(hub: Hub, client: Client) -> None:
    client.session.receive(packed("SET a 1") + packed("SET b 2")[:-3])
    client.session.disconnected()
    assert hub.log == ["write SET a 1"]


def test_client_gone_with_whole_commands_waiting(hub: Hub, client: Client) -> None:
    client.sends("GET a", "SET a 1", "MULTI", "SET b 2", "EXEC", "MULTI", "SET c 3")
    client.session.disconnected()
    assert hub.log == ["read GET a"]
    hub.answer_read(wire.OK)
    assert hub.log[1:] == ["write SET a 1", "write SET b 2"]
    hub.answer_write(wire.OK)
    hub.answer_write(b"*1\r\n+OK\r\n")
    assert client.told == b""
    assert (client.session.backlog, client.session.unanswered) == (0, 0)


def test_client_gone_while_nothing_is_accepted(hub: Hub, client: Client) -> None:
    hub.accepting = False
    client.sends("SET a 1", "PING")
    client.session.disconnected()
    assert client.session.backlog == 2
    hub.accepting = True
    client.session.resume()
    assert hub.log == ["write SET a 1"]
    assert client.session.backlog == 0
    hub.answer_write(wire.OK)
    assert client.told == b""


# --- the end of a connection -----------------------------------------------------------------------------------------


def test_quit_ends_after_the_replies_before_it(hub: Hub, client: Client) -> None:
    client.sends("SET a 1", "GET a", "QUIT", "SET b 2", "PING")
    hub.answer_write(wire.OK)
    assert not client.closed
    hub.answer_read(b"$1\r\n1\r\n")
    assert client.closed
    assert client.told == b"+OK\r\n$1\r\n1\r\n+OK\r\n"
    assert hub.log == ["write SET a 1", "read GET a"]
    client.sends("SET c 3")
    assert len(hub.log) == 2


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"+OK\r\n",
        b":1\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"%1\r\n*0\r\n+a\r\n",
        b"*1\r\n" * 20,
        b"-ERR x\r\n",
    ],
)
def test_garbage_is_answered_and_ends_the_connection(hub: Hub, client: Client, garbage: bytes) -> None:
    client.session.receive(garbage + packed("SET b 2"))
    assert client.told == PROTOCOL_ERROR
    assert client.closed
    client.sends("SET c 3")
    assert hub.log == []


def test_error_about_garbage_comes_after_the_replies_before_it(hub: Hub, client: Client) -> None:
    client.session.receive(packed("SET a 1", "GET a") + b"garbage\r\n")
    client.session.receive(b"more\r\n")
    hub.answer_write(wire.OK)
    hub.answer_read(b"$1\r\n1\r\n")
    assert client.told == b"+OK\r\n$1\r\n1\r\n" + PROTOCOL_ERROR
    assert client.closed


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*1000000000\r\n", "invalid multibulk length"),
        (b"*" + b"9" * 100, "invalid multibulk length"),
        (b"*1\r\n*1000000000\r\n", "commands must be RESP arrays of bulk strings"),
        (b"*2\r\n$1\r\na\r\n~1000000000\r\n", "commands must be RESP arrays of bulk strings"),
        (b">1000000000\r\n", "commands must be RESP arrays of bulk strings"),
        (b"*2\r\n$3\r\nSET\r\n$536870913\r\n", "invalid bulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870913\r\n", "invalid bulk length"),
    ],
)
def test_what_promises_too_much_is_refused_wherever_the_network_cuts_it(header: bytes, error: str) -> None:
    before = packed("SET a 1", "GET a")
    data = before + header + packed("SET b 2")
    for cut in range(1, len(data)):
        hub = Hub()
        client = Client(hub)
        client.session.receive(data[:cut])
        client.session.receive(data[cut:])
        assert hub.log == ["write SET a 1"]
        hub.answer_write(wire.OK)
        hub.answer_read(b"$1\r\n1\r\n")
        assert client.told == b"+OK\r\n$1\r\n1\r\n-ERR Protocol error: " + error.encode() + b"\r\n"
        assert client.closed
        client.sends("SET c 3")
        assert hub.log == ["write SET a 1", "read GET a"]


def test_values_that_look_like_headers_pass_wherever_the_network_cuts_them() -> None:
    value = b"\r\n*1000000000\r\n>9999999\r\n~9999999\r\n"
    one = wire.encode_command(b"SET", b"a", value)
    data = packed("SET x 1") + one + wire.encode_command(b"RPUSH", b"\r\n*7777777", b"") + packed("PING")
    for cut in range(1, len(data)):
        hub = Hub()
        client = Client(hub)
        client.session.receive(data[:cut])
        client.session.receive(data[cut:])
        assert b"".join(entry.payload for entry in hub.writes) == data.removesuffix(packed("PING"))
        assert not client.closed
        while hub.writes:
            entry = hub.writes.pop(0)
            entry.deliver([wire.OK] * entry.commands)
        assert client.told == wire.OK * 3 + wire.PONG


def test_empty_array_is_no_command(hub: Hub, client: Client) -> None:
    client.session.receive(b"*0\r\n" + packed("PING"))
    assert client.told == wire.PONG


def test_error_of_one_session_does_not_reach_others(hub: Hub, client: Client) -> None:
    client.sends("SET a 1", "GET a", "SET b 2")

    def broken(read: Read) -> None:
        raise ZeroDivisionError

    hub.submit_read = broken  # type: ignore[method-assign]
    hub.answer_write(wire.OK)
    assert client.told == wire.OK
    assert client.closed
    assert client.session.backlog == 0


# --- what the link answers itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("PING", b"+PONG\r\n"),
        ("ping hello", b"$5\r\nhello\r\n"),
        ("ECHO x", b"$1\r\nx\r\n"),
        ("ECHO", b"-ERR wrong number of arguments for 'echo' command\r\n"),
        ("UNWATCH", b"+OK\r\n"),
        ("CLIENT ID", b":7\r\n"),
        ("CLIENT GETNAME", b"$-1\r\n"),
        ("CLIENT SETNAME me", b"+OK\r\n"),
        ("CLIENT SETINFO LIB-NAME redis-rs", b"+OK\r\n"),
        ("CLIENT NO-EVICT on", b"+OK\r\n"),
        ("CLIENT TRACKING ON", b"-ERR link: CLIENT TRACKING is not available: connections end at the link\r\n"),
        ("CLIENT", b"-ERR link: CLIENT  is not available: connections end at the link\r\n"),
        ("HELLO 3", b"-NOPROTO unsupported protocol version: the link speaks RESP2\r\n"),
    ],
)
def test_local_commands(client: Client, command: str, reply: bytes) -> None:
    assert client.sends(command).told == reply


def test_client_name(client: Client) -> None:
    assert client.sends("CLIENT SETNAME me", "CLIENT GETNAME").told == b"+OK\r\n$2\r\nme\r\n"


@pytest.mark.parametrize("command", ["HELLO", "HELLO 2", "HELLO 2 SETNAME x"])
def test_hello_2(client: Client, command: str) -> None:
    reply = wire.decode(client.sends(command).told)
    assert isinstance(reply, list)
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    assert (fields[b"proto"], fields[b"id"], fields[b"role"]) == (2, 7, b"master")


def test_auth_says_where_the_password_belongs(client: Client) -> None:
    assert b"connection string" in client.sends("AUTH p").told


# --- inline commands -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("SET a 1", "SET|a|1"),
        ("  set   a \t 1  ", "set|a|1"),
        ("SET \"a b\" 'c d'", "SET|a b|c d"),
        (r'SET a "x\x41\n\"\q"', 'SET|a|xA\n"q'),
        (r"SET a 'it\'s'", "SET|a|it's"),
        ('SET a ""', "SET|a|"),
        ('SET a b"c d"e', None),
        ('SET a "b', None),
        ("SET a 'b'c", None),
    ],
)
def test_inline_commands(hub: Hub, client: Client, line: str, command: str | None) -> None:
    for byte in line.encode() + b"\r\n":
        client.session.receive(bytes([byte]))
    if command is None:
        assert client.told == b"-ERR Protocol error: unbalanced quotes in request\r\n"
        assert client.closed
    else:
        assert wire.split_commands(hub.writes[0].payload) == [tuple(command.encode().split(b"|"))]


def test_inline_commands_in_one_go_and_then_arrays(hub: Hub, client: Client) -> None:
    client.session.receive(b"PING\r\n\r\nSET a 1\nGET a\r\n" + packed("SET b 2", "PING"))
    hub.answer_write(wire.OK)
    hub.answer_read(b"$1\r\n1\r\n")
    hub.answer_write(wire.OK)
    assert client.told == b"+PONG\r\n+OK\r\n$1\r\n1\r\n+OK\r\n+PONG\r\n"
    assert hub.log == ["write SET a 1", "read GET a", "write SET b 2"]


def test_endless_line(client: Client) -> None:
    client.session.receive(b"SET a " + b"x" * (1 << 16))
    assert client.told == b"-ERR Protocol error: too big inline request\r\n"
    assert client.closed


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1\r\n", b"Host: localhost\r\n"])
def test_browsers_are_turned_away(hub: Hub, client: Client, line: bytes) -> None:
    client.session.receive(line + b"SET a 1\r\n")
    assert client.told.startswith(b"-ERR Protocol error")
    assert client.closed
    assert hub.log == []


def test_the_end_of_mass_insertion(hub: Hub, client: Client) -> None:
    # What redis-cli --pipe sends behind the commands that it was given.
    echo = b"\r\n*2\r\n$4\r\nECHO\r\n$20\r\n" + b"\r\n*1\r\n$" + b"e" * 13 + b"\r\n"
    client.session.receive(packed("SET a 1") + echo)
    hub.answer_write(wire.OK)
    assert client.told == b"+OK\r\n$20\r\n\r\n*1\r\n$" + b"e" * 13 + b"\r\n"


# --- CLIENT ----------------------------------------------------------------------------------------------------------


def test_clients_are_listed_and_killed(hub: Hub, client: Client) -> None:
    other = Client(hub)
    other.session.address = b"127.0.0.1:5"
    other.sends("CLIENT SETNAME other", "SELECT 2", "MULTI", "SET a 1")
    hub.others = [client.session, other.session]
    listed = client.sends("CLIENT LIST").told
    assert b"addr=127.0.0.1:5 name=other db=2 sub=0 psub=0 ssub=0 multi=1 cmd=set user=default resp=2\n" in listed
    assert listed.count(b"id=7 ") == 2
    assert b"cmd=client" in client.sends("CLIENT INFO").told
    assert client.sends("CLIENT KILL ADDR 127.0.0.1:6").told == b":0\r\n"
    assert client.sends("CLIENT KILL 127.0.0.1:6").told == b"-ERR No such client\r\n"
    assert not other.closed
    assert client.sends("CLIENT KILL ADDR 127.0.0.1:5 SKIPME yes").told == b":1\r\n"
    assert other.closed
    assert client.sends("CLIENT KILL ID 7 SKIPME no").told == b":2\r\n"
    assert client.closed


# --- beyond the guarantee --------------------------------------------------------------------------------------------


def test_at_most_once_is_sent_once_behind_the_clients_own_writes() -> None:
    hub = Hub(allowance=Allowance(at_most_once=frozenset([b"INCR"])))
    client = Client(hub).sends("SET a 1", "INCR a", "SET b 1")
    assert hub.log == ["write SET a 1"]
    hub.answer_write(wire.OK)
    assert hub.log == ["write SET a 1", "read INCR a"]
    assert not hub.reads[0].repeatable
    assert not hub.reads[0].scripted
    hub.answer_read(b":2\r\n")
    assert hub.log[-1] == "write SET b 1"
    hub.answer_write(wire.OK)
    assert b"at most once" in client.sends("MULTI").sends("INCR a").told
    assert client.sends("EXEC").told == ABORTED


@pytest.mark.parametrize("command", ["INCR marker", "incr marker"])
def test_the_marker_is_safe_from_what_is_carried_out_at_most_once(command: str) -> None:
    hub = Hub(allowance=Allowance(at_most_once=frozenset([b"INCR"])))
    assert b"marker, which nobody may write" in Client(hub).sends(command).told


@pytest.mark.parametrize("command", ["EVAL x 0", "EVAL_RO x 0", "fcall_ro x 0"])
def test_what_runs_a_script_is_marked_for_its_errors(command: str) -> None:
    hub = Hub(allowance=Allowance(ScriptMode.AT_MOST_ONCE))
    Client(hub).sends(command)
    assert hub.reads[0].scripted


def test_a_script_is_known_once_redis_has_loaded_it() -> None:
    hub = Hub(allowance=Allowance(ScriptMode.DETERMINISTIC))
    client = Client(hub)
    digest = hashlib.sha1(b"return-1").hexdigest()  # noqa: S324
    for reply, answer in ((b"-ERR Error compiling script\r\n", b"-NOSCRIPT"), (wire.encode_bulk(digest.encode()), b"")):
        client.sends("SCRIPT LOAD return-1")
        hub.answer_read(reply)
        assert client.told == reply
        client.sends(f"EVALSHA {digest.upper()} 1 k")
        assert client.told.startswith(answer)
    assert hub.log[-1] == "write EVAL return-1 1 k"
    hub.answer_write(b":1\r\n")
    assert client.sends(f"SCRIPT EXISTS {digest} {'0' * 40}").told.endswith(b"*2\r\n:1\r\n:0\r\n")
    assert client.sends("SCRIPT FLUSH").told == wire.OK
    assert client.sends(f"EVALSHA {digest} 0").told == b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
