"""The world of ``world`` with clients of flesh and blood: real sessions, whose bytes are cut anywhere.

What a client sends is written by the machine, cut by it into pieces, and goes through a ``Session``; its reads go
through a ``Reader`` on a connection of their own, as in the link. Beyond the invariants of the world:

- a client is answered once for each command, in the order of its commands;
- its writes are accepted in its order, each once, also behind its departure; half a command or half a MULTI never is;
- a read shows a data set that holds the client's own writes, and all that anybody was told of before it was sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import hiredis
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from trader_node.link import wire
from trader_node.link.decisions import Reconnect
from trader_node.link.entries import Write
from trader_node.link.reads import Read, Reader
from trader_node.link.session import Session

from .model import Connection
from .test_session import Hub
from .world import FLUSH, World


@dataclass
class Command:
    """One command of a client."""

    name: str
    value: int | None = None
    #: Entries up to this one were acknowledged to anybody when it was sent, or are the client's own.
    at_least: int = 0


@dataclass
class Client:
    """One client: what it has sent, and what it was told."""

    session: Session
    #: Bytes that are not sent yet, and those of the command that a cut goes through.
    unsent: bytes = b""
    #: Commands by the position in the stream of bytes where each of them ends.
    ends: list[tuple[int, Command]] = field(default_factory=list)
    written: int = 0
    sent: int = 0
    gone: bool = False
    closed: bool = False
    in_multi: bool = False
    replies: hiredis.Reader = field(default_factory=hiredis.Reader)
    answered: list[object] = field(default_factory=list)

    @property
    def whole(self) -> list[Command]:
        """Commands of which every byte is sent."""
        return [command for end, command in self.ends if end <= self.sent]


class _Hub(Hub):
    """The hub of all sessions of a world."""

    world: ClientWorld

    def may_accept(self) -> bool:
        return self.world.link.numbered

    def _accept(self, write: Write) -> None:
        self.world.accept(write)

    def submit_read(self, read: Read) -> None:
        self.world.reader.submit(read)


class ClientWorld(World):
    """Three nodes, one link, and clients that come and go."""

    session_class: type[Session] = Session

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[Client] = []
        self.read_connection: Connection | None = None
        self.reader = Reader()
        self.hub = _Hub()
        self.hub.world = self
        self.was_accepting = False
        self.serve(0, 0)
        self.open_client()

    # --- the hub ---

    def accept(self, write: Write) -> None:
        values: list[int | None] = []
        for name, *arguments in wire.split_commands(write.payload):
            match name:
                case b"RPUSH":
                    values.append(int(arguments[1]))
                case b"FLUSHALL":
                    values.append(FLUSH)
                case _:
                    self.with_reads.add(self.link.journal.last_seq + 1)
        self._accept(write, values)

    @property
    def acknowledged(self) -> int:
        """The last entry that a client was told of."""
        return max(self.replies, default=0)

    # --- clients ---

    @precondition(lambda self: len(self.clients) < 8)
    @rule()
    def open_client(self) -> None:
        client: Client

        def send(data: bytes) -> None:
            assert not client.gone, "written to after it has gone"
            client.replies.feed(data)
            client.answered += iter(client.replies.gets, False)

        def close() -> None:
            client.closed = True

        client = Client(self.session_class(self.hub, len(self.clients), send, close, lambda: None))
        self.clients.append(client)

    def _some_client(self, number: int) -> Client | None:
        present = [client for client in self.clients if not client.gone]
        return present[number % len(present)] if present else None

    @rule(
        number=st.integers(0, 7),
        what=st.lists(st.sampled_from("wwwwrrttmedfp"), min_size=1, max_size=6),
        cut=st.integers(0, 80),
    )
    def client_sends(self, number: int, what: list[str], cut: int = 0) -> None:
        """A client writes commands, and all but the last ``cut`` bytes arrive."""
        client = self._some_client(number)
        if client is None:
            return
        for letter in what:
            self._write_command(client, letter)
        self._deliver(client, max(len(client.unsent) - cut, 0))

    @rule(number=st.integers(0, 7), count=st.integers(1, 200))
    def bytes_of_a_client_arrive(self, number: int, count: int) -> None:
        client = self._some_client(number)
        if client is not None:
            self._deliver(client, count)

    def _write_command(self, client: Client, letter: str) -> None:
        match letter:
            case "w":
                value = self._new_values(1)[0]
                self._write(client, Command("RPUSH", value), b"RPUSH", b"list", b"%d" % value)
            case "r":
                self._write(client, Command("LRANGE"), b"LRANGE", b"list", b"0", b"-1")
            case "f":
                self._write(client, Command("FLUSHALL"), b"FLUSHALL")
            case "p":
                self._write(client, Command("PING"), b"PING")
            case "t" if not client.in_multi:
                # A whole transaction, as clients that pipeline it send it.
                for each in "mwwe":
                    self._write_command(client, each)
            case "m" if not client.in_multi:
                client.in_multi = True
                self._write(client, Command("MULTI"), b"MULTI")
            case "e" if client.in_multi:
                client.in_multi = False
                self._write(client, Command("EXEC"), b"EXEC")
            case "d" if client.in_multi:
                client.in_multi = False
                self._write(client, Command("DISCARD"), b"DISCARD")

    @staticmethod
    def _write(client: Client, command: Command, *arguments: bytes) -> None:
        data = wire.encode_command(*arguments)
        client.unsent += data
        client.written += len(data)
        client.ends.append((client.written, command))

    def _deliver(self, client: Client, count: int) -> None:
        data, client.unsent = client.unsent[:count], client.unsent[count:]
        already = len(client.whole)
        client.sent += len(data)
        for command in client.whole[already:]:
            command.at_least = self.acknowledged
        if data:
            client.session.receive(data)

    @rule(number=st.integers(0, 7))
    def client_goes(self, number: int) -> None:
        client = self._some_client(number)
        if client is not None:
            client.gone = True
            self.seen["clients gone in MULTI"] += client.session.queued >= 0
            client.session.disconnected()

    # --- the link's shell ---

    def _go_on(self) -> None:
        """Do what the link does behind every answer of the master."""
        if self.link.numbered and not self.was_accepting:
            for client in self.clients:
                client.session.resume()
        self.was_accepting = self.link.numbered
        if self.connection is None or not self.link.caught_up:
            return
        if self.read_connection is None:
            self.read_connection = Connection(self.connection.node)
            self.read_connection.send(self.reader.connected(self.now))
        self.read_connection.send(self.reader.next_requests(self.now))

    def answer(self, *arguments: int, **named: int) -> None:
        super().answer(*arguments, **named)  # type: ignore[arg-type]
        self._go_on()
        if self.reads_by_the_way and self.read_connection is not None:
            self.answer_reads(10, 0)

    #: Whether reads are answered whenever writes are: so that the end is reached.
    reads_by_the_way = False

    @precondition(lambda self: self.read_connection is not None)
    @rule(count=st.integers(1, 8), unheard=st.integers(0, 20))
    def answer_reads(self, count: int, unheard: int) -> None:
        assert self.read_connection is not None
        self._go_on()
        self.read_connection.execute(count)
        if not self.read_connection.open:
            self._lose_reads()
            return
        decision = self.reader.receive(self.read_connection.take(unheard), self.now)
        if isinstance(decision, Reconnect):
            self._lose_reads()
        self._go_on()

    def _lose_reads(self) -> None:
        if self.read_connection is not None:
            self.reader.disconnected()
            self.read_connection = None

    def lose_connection(self) -> None:
        super().lose_connection()
        self._lose_reads()

    def crash_link(self) -> None:
        super().crash_link()
        # Its clients are cut off, and what they were not told of is not known to anybody.
        self.reader = Reader()
        self.read_connection = None
        self.was_accepting = False
        for client in self.clients:
            client.gone = True
        self.clients = []
        self.hub = _Hub()
        self.hub.world = self
        self.open_client()

    # --- what must hold ---

    @invariant()
    def clients_are_answered_in_order(self) -> None:
        positions: dict[int | None, int] = {
            value: seq for seq, values in self.accepted.items() for value in values if value is not None
        }
        for client in self.clients:
            commands = client.whole
            assert len(client.answered) <= len(commands), "answered more than was asked"
            queued: list[Command] | None = None
            own = 0
            for command, reply in zip(commands, client.answered, strict=False):
                own = max(own, positions.get(command.value, 0))
                command.at_least = max(command.at_least, own)
                queued = self._check_reply(command, reply, queued)
            self._check_acceptance(client, commands, positions)

    def _check_reply(self, command: Command, reply: object, queued: list[Command] | None) -> list[Command] | None:
        told = str(reply)
        if command.name == "MULTI":
            assert reply == b"OK", told
            return []
        if command.name == "DISCARD":
            assert reply == b"OK", told
            return None
        if command.name == "EXEC":
            assert queued is not None
            if told.startswith("EXECABORT"):
                assert "NOPERM" in told, told
                return None
            assert isinstance(reply, list), told
            assert len(reply) == len(queued), told
            for each, single in zip(queued, reply, strict=True):
                self._check_single(each, single, inside=True)
            return None
        if queued is not None:
            assert reply == b"QUEUED", told
            return [*queued, command]
        self._check_single(command, reply, inside=False)
        return None

    def _check_single(self, command: Command, reply: object, *, inside: bool) -> None:
        told = str(reply)
        if told.startswith("UNKNOWN link: the command was applied exactly once") or reply == b"JOURNALLED":
            assert command.name != "PING" or inside
            return
        match command.name:
            case "PING":
                assert reply == b"PONG", told
            case "FLUSHALL":
                assert reply == b"OK", told
            case "RPUSH" if isinstance(reply, int):
                seq = next(seq for seq, values in self.accepted.items() if command.value in values)
                length = len(self._expected(seq - 1))
                for value in self.accepted[seq]:
                    length = 0 if value == FLUSH else length + 1
                    if value == command.value:
                        break
                assert length == reply, f"{command.value} was the list's number {reply}"
            case "RPUSH":
                assert told.startswith("NOPERM"), told
            case "LRANGE":
                assert isinstance(reply, list), told
                self.seen["reads answered"] += 1
                values = [int(value) for value in reply]
                if not inside:
                    states = [self._expected(seq) for seq in range(command.at_least, max(self.accepted, default=0) + 1)]
                    assert values in states, f"{values} lacks what was told before it was asked"

    def _check_acceptance(self, client: Client, commands: list[Command], positions: dict[int | None, int]) -> None:
        writes: list[int] = []
        queued: list[int] | None = None
        for command in commands:
            match command.name:
                case "MULTI":
                    queued = []
                case "EXEC":
                    writes, queued = writes + (queued or []), None
                case "DISCARD":
                    queued = None
                case "RPUSH" if queued is not None:
                    queued.append(command.value or 0)
                case "RPUSH":
                    writes.append(command.value or 0)
        accepted = [positions[value] for value in writes if value in positions]
        assert accepted == sorted(accepted), "accepted in another order"
        mine = {command.value for _, command in client.ends if command.value is not None}
        assert mine.intersection(positions) <= set(writes), "accepted, though it was not sent whole"

    def teardown(self) -> None:
        self.reads_by_the_way = True
        super().teardown()
        for _ in range(30):
            self.pump()
            self.answer(50)
        assert not self.link.unfinished
        self.every_data_set_is_a_prefix()
        self.clients_are_answered_in_order()
        for client in self.clients:
            assert client.session.backlog == 0, "a whole command still waits"
            if not client.gone:
                assert len(client.answered) == len(client.whole), "a client waits for ever"
        self.seen["answered"] += sum(len(client.answered) for client in self.clients)
