"""The shared read connection: order, databases, reconnects and errors."""

from __future__ import annotations

import pytest

from trader_node.link import wire
from trader_node.link.decisions import Reconnect
from trader_node.link.reads import Read, Reader

MASTER = wire.join_array([wire.encode_bulk(b"master"), wire.encode_integer(5), wire.EMPTY_ARRAY])
REPLICA = wire.join_array([wire.encode_bulk(b"slave"), wire.encode_bulk(b"10.0.0.1")])
AUTH, ROLE = wire.encode_command(b"AUTH", b"p"), wire.encode_command(b"ROLE")
NOPERM = b"-NOPERM this user has no permissions to run the 'select' command\r\n"


def select(db: int) -> bytes:
    return wire.encode_command(b"SELECT", db)


class Client:
    """Asks, and remembers what it was told."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.told: list[tuple[str, bytes]] = []

    def ask(self, name: str, *, db: int = 0, repeatable: bool = True, scripted: bool = False) -> None:
        self.reader.submit(Read(db, name.encode(), lambda reply: self.told.append((name, reply)), repeatable, scripted))


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def client(reader: Reader) -> Client:
    return Client(reader)


def connected(reader: Reader) -> Reader:
    assert reader.connected(0.0) == ROLE
    assert reader.receive(MASTER, 0.0) is None
    return reader


def test_nothing_is_asked_before_the_node_has_said_it_is_a_master(reader: Reader, client: Client) -> None:
    client.ask("a")
    assert reader.next_requests(0.0) == b""
    assert reader.connected(0.0) == ROLE
    assert reader.next_requests(0.0) == b""
    assert reader.receive(MASTER, 0.0) is None
    assert reader.next_requests(0.0) == b"a"


def test_answers_go_to_those_who_asked_in_order(reader: Reader, client: Client) -> None:
    connected(reader)
    for name in "abc":
        client.ask(name)
    assert reader.next_requests(0.0) == b"abc"
    client.ask("d")
    assert reader.next_requests(0.0) == b"d"
    assert reader.receive(b"+1\r\n$1\r\n2\r", 0.0) is None
    assert client.told == [("a", b"+1\r\n")]
    assert reader.receive(b"\n*0\r\n:4\r\n", 0.0) is None
    assert client.told[1:] == [("b", b"$1\r\n2\r\n"), ("c", b"*0\r\n"), ("d", b":4\r\n")]
    assert len(reader) == 0


def test_databases_are_selected_when_they_change(reader: Reader, client: Client) -> None:
    connected(reader)
    for name, db in (("a", 0), ("b", 3), ("c", 3), ("d", 0)):
        client.ask(name, db=db)
    assert reader.next_requests(0.0) == b"a" + select(3) + b"bc" + select(0) + b"d"
    assert reader.receive(b"+A\r\n+OK\r\n+B\r\n+C\r\n+OK\r\n+D\r\n", 0.0) is None
    assert client.told == [("a", b"+A\r\n"), ("b", b"+B\r\n"), ("c", b"+C\r\n"), ("d", b"+D\r\n")]


def test_new_connection_begins_in_database_0(reader: Reader, client: Client) -> None:
    connected(reader)
    client.ask("a", db=3)
    reader.next_requests(0.0)
    reader.disconnected()
    connected(reader)
    assert reader.next_requests(0.0) == select(3) + b"a"


def test_database_that_cannot_be_selected_is_the_problem_of_those_who_read_there(
    reader: Reader, client: Client
) -> None:
    connected(reader)
    for name, db in (("a", 0), ("b", 3), ("c", 3), ("d", 0)):
        client.ask(name, db=db)
    reader.next_requests(0.0)
    # b and c have run in database 0, and their answers are wrong.
    assert reader.receive(b"+A\r\n" + NOPERM + b"+wrong\r\n+wrong\r\n+OK\r\n+D\r\n", 0.0) is None
    assert client.told == [("a", b"+A\r\n"), ("b", NOPERM), ("c", NOPERM), ("d", b"+D\r\n")]
    client.ask("e", db=3)
    assert reader.next_requests(0.0) == select(3) + b"e"
    assert reader.receive(NOPERM, 0.0) is None
    client.ask("f", db=3)
    assert reader.next_requests(0.0) == b"f"
    assert reader.receive(b"+wrong\r\n+wrong\r\n", 0.0) is None
    assert client.told[4:] == [("e", NOPERM), ("f", NOPERM)]


def test_unanswered_reads_are_asked_again_first_and_in_order(reader: Reader, client: Client) -> None:
    connected(reader)
    for name in "abc":
        client.ask(name)
    reader.next_requests(0.0)
    client.ask("d")
    reader.receive(b"+A\r\n$100\r\nhalf of b", 0.0)
    reader.disconnected()
    assert len(reader) == 3
    connected(reader)
    assert reader.next_requests(0.0) == b"bcd"
    assert reader.receive(b"+B\r\n+C\r\n+D\r\n", 0.0) is None
    assert client.told == [("a", b"+A\r\n"), ("b", b"+B\r\n"), ("c", b"+C\r\n"), ("d", b"+D\r\n")]


def test_publish_is_not_repeated_and_its_client_is_told(reader: Reader, client: Client) -> None:
    connected(reader)
    client.ask("publish", repeatable=False)
    client.ask("b")
    reader.next_requests(0.0)
    client.ask("unsent", repeatable=False)
    reader.disconnected()
    ((name, reply),) = client.told
    assert name == "publish"
    assert b"may have been applied" in reply
    connected(reader)
    assert reader.next_requests(0.0) == b"bunsent"


def test_what_was_refused_was_not_carried_out_and_may_be_sent_again(reader: Reader, client: Client) -> None:
    connected(reader)
    client.ask("once", repeatable=False)
    client.ask("behind", repeatable=False)
    reader.next_requests(0.0)
    assert isinstance(reader.receive(b"-READONLY You can't write against a read only replica.\r\n", 0.0), Reconnect)
    reader.disconnected()
    # Of what stood behind it nobody knows.
    assert [name for name, _ in client.told] == ["behind"]
    connected(reader)
    assert reader.next_requests(0.0) == b"once"
    reader.disconnected()
    assert [name for name, _ in client.told] == ["behind", "once"]


@pytest.mark.parametrize("code", ["BUSY", "TRYAGAIN", "LOADING", "READONLY", "NOREPLICAS", "MISCONF", "MASTERDOWN"])
@pytest.mark.parametrize("repeatable", [False, True])
def test_a_scripts_own_error_is_an_answer_whatever_its_code(
    reader: Reader, client: Client, code: str, repeatable: bool
) -> None:
    connected(reader)
    client.ask("script", repeatable=repeatable, scripted=True)
    reader.next_requests(0.0)
    error = f"-{code} the lock is held\r\n".encode()
    assert reader.receive(error, 0.0) is None
    assert client.told == [("script", error)]
    reader.disconnected()
    connected(reader)
    assert reader.next_requests(0.0) == b""


@pytest.mark.parametrize(
    "error",
    [
        "READONLY You can't write against a read only replica.",
        "READONLY You can't write against a read only replica. script: 1f, on @user_script:1.",
        "READONLY Can not run script with write flag on readonly replica",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "NOREPLICAS Not enough good replicas to write.",
        "MISCONF Errors writing to the AOF file: No space left on device",
    ],
)
def test_a_script_that_redis_did_not_run_is_sent_again(reader: Reader, client: Client, error: str) -> None:
    connected(reader)
    client.ask("script", repeatable=False, scripted=True)
    reader.next_requests(0.0)
    assert isinstance(reader.receive(f"-{error}\r\n".encode(), 0.0), Reconnect)
    reader.disconnected()
    assert client.told == []
    connected(reader)
    assert reader.next_requests(0.0) == b"script"


@pytest.mark.parametrize(
    ("error", "rediscover"),
    [
        (b"-LOADING Redis is loading\r\n", False),
        (b"-MASTERDOWN Link with MASTER is down\r\n", True),
        (b"-READONLY replica\r\n", True),
    ],
)
def test_errors_of_the_node_are_not_shown_and_asked_again(
    reader: Reader, client: Client, error: bytes, rediscover: bool
) -> None:
    connected(reader)
    client.ask("a")
    reader.next_requests(0.0)
    decision = reader.receive(error, 0.0)
    assert isinstance(decision, Reconnect)
    assert decision.rediscover is rediscover
    reader.disconnected()
    assert client.told == []
    connected(reader)
    assert reader.next_requests(0.0) == b"a"


def test_errors_of_the_command_belong_to_the_client(reader: Reader, client: Client) -> None:
    connected(reader)
    client.ask("a")
    reader.next_requests(0.0)
    assert reader.receive(b"-WRONGTYPE no\r\n", 0.0) is None
    assert client.told == [("a", b"-WRONGTYPE no\r\n")]


def test_replica_is_left(reader: Reader, client: Client) -> None:
    client.ask("a")
    reader.connected(0.0)
    decision = reader.receive(REPLICA, 0.0)
    assert isinstance(decision, Reconnect)
    assert decision.rediscover
    assert reader.next_requests(0.0) == b""


def test_password_costs_one_reply_more(client: Client) -> None:
    reader = client.reader = Reader(AUTH)
    client.ask("a")
    assert reader.connected(0.0) == AUTH + ROLE
    assert reader.receive(wire.OK, 0.0) is None
    assert reader.next_requests(0.0) == b""
    assert reader.receive(MASTER, 0.0) is None
    assert reader.next_requests(0.0) == b"a"
    assert reader.receive(wire.OK, 0.0) is None
    assert client.told == [("a", wire.OK)]


def test_wrong_password_ends_the_connection() -> None:
    reader = Reader(AUTH)
    reader.connected(0.0)
    assert isinstance(reader.receive(b"-WRONGPASS invalid\r\n", 0.0), Reconnect)
    reader.disconnected()
    assert len(reader) == 0


@pytest.mark.parametrize("data", [b"+unasked\r\n", b"?\r\n"])
def test_nonsense_ends_the_connection(reader: Reader, data: bytes) -> None:
    connected(reader)
    assert isinstance(reader.receive(data, 0.0), Reconnect)


def test_silence_is_counted_from_the_last_answer(reader: Reader, client: Client) -> None:
    assert reader.waiting_since() is None
    reader.connected(1.0)
    assert reader.waiting_since() == 1.0
    reader.receive(MASTER, 2.0)
    assert reader.waiting_since() is None
    client.ask("a")
    client.ask("b")
    reader.next_requests(5.0)
    assert reader.waiting_since() == 5.0
    reader.receive(b"+A\r\n$9\r\npart", 7.0)
    assert reader.waiting_since() == 7.0
    reader.disconnected()
    assert reader.waiting_since() is None
