"""One client's connection: its commands in, its replies out in order, its transaction state.

A client's reads wait for its own earlier writes and its writes for its own earlier reads, because the two travel on
different connections to Redis. Nothing is accepted before the link has had its first look at the marker.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import hiredis

from . import client_command, wire
from .allowance import Allowance
from .blocking import parse_any
from .bounds import NO_COMMAND, CommandBounds
from .commands import Kind, StreamIds, Verdict, classify, common_kind
from .entries import Form, ReplySink, Write
from .inline import LAST_OF_PIPE, LINE_STARTS, MOST_BYTES, InlineError, split_line
from .login import NOPROTO, Login
from .pins import PINS, pin
from .pubsub import Subscriber
from .random_pops import RandomPop
from .reads import Read
from .scripts import SCRIPT_COMMANDS, answer_script
from .server_bounds import SURE_BYTES, ServerBounds
from .side import Side
from .stream_appends import StreamAppend, learning, takes_id
from .stream_reads import StreamReader
from .tables import MESSAGES, SUBSCRIPTIONS
from .waiting import Waiter, WaitingRoom

logger = logging.getLogger("link.session")


class Hub(Protocol):
    """What a session needs of the link."""

    #: Databases that the server has: SELECT is checked against it, because inside a transaction it fails too late.
    @property
    def databases(self) -> int:
        """Number of databases."""

    @property
    def server_bounds(self) -> ServerBounds:
        """What the server can read; it would close the link's connection because of anything longer."""

    stream_ids: StreamIds
    #: Key of the link's own marker: no client may write it.
    marker_key: bytes
    #: What clients have to log in with; a ``Gate`` lets nobody else come as far as here.
    login: Login | None
    #: What the user allows beyond the guarantee.
    allowance: Allowance
    #: The database of the connection string, in which clients begin.
    first_db: int
    #: Clients that wait for data.
    waiting: WaitingRoom

    def may_accept(self) -> bool:
        """Whether a write may be accepted now; if not, the hub calls ``resume`` later."""

    def wall_clock_ms(self) -> int:
        """Return Unix time in milliseconds."""

    def submit_write(self, write: Write) -> None:
        """Accept a write."""

    def submit_read(self, read: Read) -> None:
        """Take a read."""

    def open_side(self, greet: Callable[[], bytes], take: Callable[[bytes], None]) -> Side:
        """Open a connection to the master for one client; see ``side``."""

    def call_later(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call a function later; return what cancels it."""

    def sessions(self) -> Iterable[Session]:
        """Iterate over the sessions of all clients."""


class Slot:
    """A place in line for the replies to ``commands`` commands that are answered together."""

    __slots__ = ("commands", "reply")

    def __init__(self, commands: int = 1, reply: bytes | None = None) -> None:
        self.commands = commands
        self.reply = reply


#: As clients write them.
_MULTI = ([b"MULTI"], [b"multi"])
_EXEC = ([b"EXEC"], [b"exec"])
_MULTI_OR_EXEC = _MULTI + _EXEC
_MULTI_AND_EXEC_BYTES = len(wire.encode_command(b"MULTI") + wire.encode_command(b"EXEC"))
#: Stands for bytes that are not a command.
_NO_COMMAND: tuple[bytes, ...] = ()
_PROTOCOL_ERROR = wire.encode_error(NO_COMMAND)
_DB_DIGITS = 5
_HTTP = (b"post", b"host:")
_CHANGES = (Kind.WRITE, Kind.BLOCKING_WRITE, Kind.RANDOM_POP, Kind.ONCE)
_RANDOM_POP_REFUSED = wire.encode_error(
    "ERR link: SPOP is not available inside MULTI: which members it removes has to be known before; use SRANDMEMBER "
    "and then SREM"
)
_QUEUED_REFUSAL = wire.encode_error("EXECABORT Transaction discarded because of previous errors.")


class Session:
    """State of one client connection.

    ``send`` takes bytes for the client; ``close`` ends the connection after them; ``progressed`` is called when
    ``backlog`` or ``unanswered`` may have become smaller.
    """

    def __init__(
        self,
        hub: Hub,
        client_id: int,
        send: Callable[[bytes], None],
        close: Callable[[], None],
        progressed: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._client_id = client_id
        self._send = send
        self._close = close
        self._progressed = progressed
        self._reader = hiredis.Reader()
        self._bounds = CommandBounds()
        self._slots: deque[Slot] = deque()
        self._unanswered = 0
        self._backlog: deque[tuple[bytes, ...]] = deque()
        #: Kind of the requests under way, and how many.
        self._under_way = Kind.LOCAL
        self._outstanding = 0
        self._db = hub.first_db
        self.name = b""
        #: host:port of the client.
        self.address = b""
        #: The command that came last, for CLIENT LIST.
        self.last_command = b""
        self._protocol_error = _PROTOCOL_ERROR
        #: No RESP array has come yet: these are inline commands. From the first array on, arrays only.
        self._inline = True
        #: Bytes of inline commands, up to a whole line.
        self._line = bytearray()
        #: The client waits for data: what follows is for later.
        self._waits = False
        self._waiter: Waiter | None = None
        self._stream_reader: StreamReader | None = None
        self._subscriber: Subscriber | None = None
        #: What EXEC is to carry out. What has to be pinned is as it came from the client.
        self._transaction: list[Verdict] | None = None
        self._transaction_db = 0
        self._transaction_refused = False
        #: A transaction that selects a database is under way: whether it is carried out decides where the next
        #: command belongs.
        self._db_undecided = False
        self._gone = False
        self._closing = False
        self._corked = False
        self._resuming = False
        #: What follows is not looked at: it is behind QUIT or behind bytes that are no command.
        self._deaf = False

    @property
    def backlog(self) -> int:
        """How many commands wait for earlier ones."""
        return len(self._backlog)

    @property
    def unanswered(self) -> int:
        """How many replies are still due."""
        return self._unanswered

    def receive(self, data: bytes) -> None:
        """Take bytes of the client."""
        if self._inline:
            self._receive_lines(data)
            return
        if self._deaf:
            return
        admitted = self._bounds.admit(data)
        self._reader.feed(data if admitted == len(data) else data[:admitted])
        commands: list[Any] = []
        broken = False
        try:
            commands.extend(iter(self._reader.gets, False))
        except (hiredis.ProtocolError, TypeError):
            # TypeError: a RESP3 map with a key that Python cannot hash.
            broken = True
        size = self._take_together(commands) if commands else 0
        if size and size == self._bounds.before + len(data):
            # Whole commands, and nothing behind them.
            return
        self._corked = True
        try:
            self._take_apart(data, commands, size, broken)
        finally:
            self._corked = False
            self._flush()

    def _take_apart(self, data: bytes, commands: list[Any], size: int, broken: bool) -> None:
        """Take the commands of ``data`` that were not taken together, and what is behind them.

        ``size``: bytes of those that were taken together.
        """
        if not size:
            self._take_singly(commands)
        if broken or self._bounds.error:
            last = LAST_OF_PIPE.search(data)
            if last is not None:
                self._line_up((b"ECHO", last[1]))
            else:
                self._break_off(self._bounds.error or NO_COMMAND)
        elif not self._deaf and not self._bounds.followed:
            self._bounds.parsed(data, size or len(wire.encode_commands(commands)))
            if self._bounds.error:
                self._break_off(self._bounds.error)

    def _take_singly(self, commands: list[Any]) -> None:
        """Take commands one by one, but whole transactions among them at once."""
        position = 0
        while position < len(commands):
            if commands[position] in _MULTI:
                # Up to the next MULTI at most: nothing is looked at twice, however many of them there are.
                behind = range(position + 1, len(commands))
                end = next((index for index in behind if commands[index] in _MULTI_OR_EXEC), None)
                if end is not None and self._take_together(commands[position : end + 1]):
                    position = end + 1
                    continue
            self._command(commands[position])
            position += 1

    def _receive_lines(self, data: bytes) -> None:
        """Take inline commands: lines of words."""
        self._line += data
        self._corked = True
        try:
            while self._line and not self._deaf and not self._line.startswith(b"*"):
                if self._line[0] not in LINE_STARTS:
                    self._line_up(_NO_COMMAND)
                    return
                end = self._line.find(b"\n")
                if end < 0:
                    if len(self._line) > MOST_BYTES:
                        self._break_off("ERR Protocol error: too big inline request")
                    return
                line = bytes(self._line[:end])
                del self._line[: end + 1]
                self._take_line(line)
        finally:
            self._corked = False
            self._flush()
        if self._line and not self._deaf:
            self._inline = False
            self.receive(bytes(self._line))

    def _take_line(self, line: bytes) -> None:
        try:
            words = split_line(line)
        except InlineError as error:
            self._break_off(str(error))
            return
        if words and words[0].lower() in _HTTP:
            # A browser that was made to talk to this port, as in Redis.
            self._break_off("ERR Protocol error: this is not an HTTP server")
        elif words:
            self._line_up(words)

    def _break_off(self, error: str) -> None:
        """Answer bytes that are no command, and close."""
        self._protocol_error = wire.encode_error(error)
        self._line_up(_NO_COMMAND)

    def _take_together(self, commands: list[Any]) -> int:
        """Take what came in one go as one entry or one read, and return how many bytes that was.

        Or return 0: then each is looked at by itself.

        The hot path: almost everything that clients send is plain writes, plain reads, or one whole transaction of
        plain writes.
        """
        if self._transaction is not None or self._backlog or self._deaf or self._db_undecided:
            return 0
        if self._waits or self._subscriber is not None:
            return 0
        count, form = len(commands), Form.SINGLE
        if count > 1:
            form = Form.BATCH
            if count > 2 and commands[0] in _MULTI and commands[-1] in _EXEC:
                commands, count, form = commands[1:-1], count - 2, Form.TRANSACTION
        try:
            kind = common_kind(commands, self._hub.allowance)
            if kind is None or (form is Form.TRANSACTION and kind is not Kind.WRITE) or not self._hub.may_accept():
                return 0
            payload = wire.encode_commands(commands)
        except (TypeError, LookupError):
            # Not everything is a list of byte strings.
            return 0
        if kind is Kind.WRITE and self._hub.marker_key in payload:
            return 0
        if len(payload) > SURE_BYTES and len(payload) > self._hub.server_bounds.least:
            return 0
        if self._outstanding and self._under_way is not kind:
            return 0
        self._under_way = kind
        size = len(payload)
        if kind is Kind.READ:
            self._hub.submit_read(Read(self._db, payload, self._sink(count), commands=count))
        elif form is Form.TRANSACTION:
            size += _MULTI_AND_EXEC_BYTES
            sink = self._sink(count + 2, wire.OK + wire.QUEUED * count)
            self._hub.submit_write(Write(payload, count, form, self._db, self._db, sink))
        else:
            self._hub.submit_write(Write(payload, count, form, self._db, self._db, self._sink(count)))
        return size

    def resume(self) -> None:
        """Go on with commands that waited until writes may be accepted.

        Raises nothing: the caller is in the middle of other clients' replies.
        """
        if self._resuming:
            # Called by what the command that is first in line brings about itself, such as a subscriber's answer.
            return
        self._resuming = True
        try:
            while self._backlog and self._dispatch(self._backlog[0]):
                self._backlog.popleft()
                if self._closing:
                    self._backlog.clear()
        except Exception:
            logger.exception("client %d: closed, because of an error in the link", self._client_id)
            self._backlog.clear()
            self._close()
        finally:
            self._resuming = False

    def disconnected(self) -> None:
        """Take note that the client is gone.

        Whole writes that it sent are carried out all the same; an unfinished MULTI is dropped; nobody reads replies.
        """
        self._gone = True
        self._slots.clear()
        self._stop_waiting()
        if self._stream_reader is not None:
            self._stream_reader.close()
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None
        self.resume()

    def pause(self, paused: bool) -> None:
        """Take no messages for a client that does not read what it gets, or go on."""
        if self._subscriber is not None:
            self._subscriber.pause(paused)

    def _command(self, command: object) -> None:
        if not isinstance(command, list) or not all(isinstance(argument, bytes) for argument in command):
            self._line_up(_NO_COMMAND)
        elif command:
            self._line_up(tuple(command))

    def _line_up(self, arguments: tuple[bytes, ...]) -> None:
        if self._deaf:
            return
        self._deaf = arguments == _NO_COMMAND or arguments[0].upper() == b"QUIT"
        if self._backlog or not self._dispatch(arguments):
            self._backlog.append(arguments)

    # --- one command ---------------------------------------------------------------------------------------------

    def _dispatch(self, arguments: tuple[bytes, ...]) -> bool:
        """Carry out a command, or return False if it has to wait."""
        if arguments == _NO_COMMAND:
            self._closing = True
            self._reply(self._protocol_error)
            return True
        if self._db_undecided or self._waits or not self._hub.may_accept():
            return False
        self.last_command = arguments[0]
        if self._subscriber is not None and arguments[0].upper() not in (b"QUIT", b"RESET"):
            if self._subscriber.active:
                return self._subscriber.take(arguments)
            self._subscriber = None
        if too_big := self._hub.server_bounds.refusal(arguments):
            self._transaction_refused = self._transaction is not None
            self._reply(wire.encode_error(too_big))
            return True
        # In MULTI, ids are given when EXEC comes.
        stream_ids = self._hub.stream_ids if self._transaction is None else StreamIds()
        verdict = classify(arguments, self._hub.wall_clock_ms(), stream_ids, self._hub.allowance)
        if verdict.kind in _CHANGES and self._hub.marker_key in arguments:
            verdict = Verdict(
                Kind.REFUSED, reason="ERR link: that key is the link's own marker, which nobody may write"
            )
        match verdict.kind:
            case Kind.LOCAL:
                return self._local(arguments)
            case Kind.REFUSED:
                self._transaction_refused = self._transaction is not None
                self._reply(wire.encode_error(verdict.reason))
                return True
        if self._transaction is not None:
            self._queue(arguments, verdict)
            return True
        if not self._turn(Kind.WRITE if verdict.kind in (Kind.WRITE, Kind.BLOCKING_WRITE) else Kind.READ):
            return False
        payload = wire.encode_command(*verdict.arguments)
        match verdict.kind:
            case Kind.READ | Kind.ONCE:
                name = arguments[0].upper()
                repeatable = verdict.kind is Kind.READ and name not in MESSAGES
                scripted = name in SCRIPT_COMMANDS
                self._hub.submit_read(Read(self._db, payload, self._script_sink(arguments), repeatable, scripted))
                return True
            case Kind.RANDOM_POP:
                RandomPop(
                    self._db, arguments, self._hub.submit_read, self._hub.submit_write, self._waiting_sink()
                ).start()
                return True
            case Kind.BLOCKING_WRITE:
                sink = self._waiting_sink()
                self._waiter = self._hub.waiting.wait(self._db, parse_any(arguments), sink)
                return True
            case Kind.BLOCKING_READ:
                if self._stream_reader is None:
                    self._stream_reader = StreamReader(self._hub.open_side, self._hub.submit_read, self._hub.call_later)
                self._stream_reader.read(self._db, parse_any(arguments), self._waiting_sink())
                return True
        if takes_id(arguments):
            self._append(arguments, verdict.arguments)
            return True
        self._hub.submit_write(
            Write(
                payload,
                1,
                db=self._db,
                end_db=self._db,
                sink=self._sink(),
            )
        )
        return True

    def _queue(self, arguments: tuple[bytes, ...], verdict: Verdict) -> None:
        """Put a command into the transaction. None waits there: as in Redis, it finds nothing instead."""
        if verdict.kind is Kind.RANDOM_POP:
            self._transaction_refused = True
            self._reply(_RANDOM_POP_REFUSED)
            return
        if verdict.kind is Kind.ONCE:
            self._transaction_refused = True
            shown = verdict.arguments[0].decode(errors="replace")
            self._reply(
                wire.encode_error(
                    f"ERR link: {shown} is carried out at most once, by LINK_AT_MOST_ONCE or LINK_SCRIPTS, and "
                    "MULTI exactly once: send it by itself"
                )
            )
            return
        if arguments[0].upper() in PINS:
            # It counts from EXEC, before which other clients may write.
            verdict = Verdict(verdict.kind, arguments)
        assert self._transaction is not None
        self._transaction.append(verdict)
        self._reply(wire.QUEUED)

    def _append(self, arguments: tuple[bytes, ...], pinned: tuple[bytes, ...]) -> None:
        sink, held = self._sink(), False

        def hold() -> bool:
            nonlocal held
            if self._outstanding == 1:
                held = self._waits = True
            return held

        def deliver(reply: bytes) -> None:
            if held:
                self._waits = False
            sink(reply)

        StreamAppend(self._hub, self._db, arguments, hold, deliver).submit(pinned)

    def _waiting_sink(self) -> ReplySink:
        """Return what takes the reply that a client waits for; until then, what it sends is for later."""
        sink = self._sink()
        self._waits = True

        def deliver(reply: bytes) -> None:
            self._waits = False
            self._waiter = None
            sink(reply)

        return deliver

    def _stop_waiting(self) -> None:
        if self._waiter is not None:
            self._hub.waiting.cancel(self._waiter)
        if self._stream_reader is not None:
            self._stream_reader.cancel()

    def _script_sink(self, arguments: tuple[bytes, ...]) -> ReplySink:
        """Return what takes the reply to a read; a script that Redis could load is known from then on."""
        sink = self._sink()
        if arguments[0].upper() != b"SCRIPT":
            return sink

        def deliver(reply: bytes) -> None:
            if not wire.is_error(reply):
                self._hub.allowance.store.add(arguments[2])
            sink(reply)

        return deliver

    def _turn(self, kind: Kind) -> bool:
        if self._outstanding and self._under_way is not kind:
            return False
        self._under_way = kind
        return True

    def _sink(self, commands: int = 1, prefix: bytes = b"") -> ReplySink:
        """Return what takes the reply to ``commands`` commands; ``prefix`` holds replies that come right before it."""
        slot = Slot(commands)
        self._slots.append(slot)
        self._unanswered += commands
        self._outstanding += 1

        def deliver(reply: bytes) -> None:
            slot.reply = prefix + reply
            self._outstanding -= 1
            if not self._corked:
                self._flush()
            if self._backlog:
                self.resume()
            self._progressed()

        return deliver

    def _reply(self, reply: bytes) -> None:
        self._slots.append(Slot(reply=reply))
        self._unanswered += 1
        self._flush()

    def _flush(self) -> None:
        if self._corked:
            return
        slots = self._slots
        if self._gone:
            slots.clear()
            self._unanswered = 0
            return
        parts = []
        while slots and (reply := slots[0].reply) is not None:
            parts.append(reply)
            self._unanswered -= slots.popleft().commands
        if parts:
            self._send(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._closing and not slots:
            self._close()

    # --- commands that concern the connection --------------------------------------------------------------------

    def _local(self, arguments: tuple[bytes, ...]) -> bool:
        name = arguments[0].upper()
        if name == b"EXEC":
            return self._exec()
        if self._transaction is not None and name not in (
            b"MULTI",
            b"DISCARD",
            b"SELECT",
            b"PING",
            b"ECHO",
            b"RESET",
            b"QUIT",
        ):
            self._transaction_refused = True
            self._reply(wire.encode_error(f"ERR link: {name.decode()} is not available inside MULTI"))
            return True
        if name in SUBSCRIPTIONS:
            return self._subscribe(arguments)
        self._reply(getattr(self, f"_do_{name.decode().lower()}")(arguments))
        return True

    def _subscribe(self, arguments: tuple[bytes, ...]) -> bool:
        if self._outstanding:
            # From here on there are no places in line: what is published comes in between.
            return False
        self._subscriber = Subscriber(self._send_message, self._hub.open_side)
        return self._subscriber.take(arguments)

    def _send_message(self, message: bytes) -> None:
        self._reply(message)
        if self._backlog:
            self.resume()

    def _exec(self) -> bool:
        if self._transaction is None:
            self._reply(wire.encode_error("ERR EXEC without MULTI"))
            return True
        if not self._transaction_refused and self._transaction and not self._turn(Kind.WRITE):
            return False
        queued, self._transaction = self._transaction, None
        if self._transaction_refused:
            self._reply(_QUEUED_REFUSAL)
        elif not queued:
            self._reply(wire.EMPTY_ARRAY)
        elif too_big := self._hub.server_bounds.refusal_of_size(sum(sum(map(len, each.arguments)) for each in queued)):
            self._reply(wire.encode_error(f"EXECABORT Transaction discarded because of previous errors: {too_big}"))
        else:
            sink = learning(self._hub, self._db, [verdict.arguments for verdict in queued], self._sink())
            now_ms, stream_ids = self._hub.wall_clock_ms(), self._hub.stream_ids
            pinned = [pin(verdict.arguments, now_ms, stream_ids) for verdict in queued]
            self._hub.submit_write(
                Write(
                    wire.encode_commands(pinned),
                    len(queued),
                    Form.TRANSACTION,
                    db=self._db,
                    end_db=self._transaction_db,
                    sink=sink if self._transaction_db == self._db else self._selecting(sink, self._transaction_db),
                    writes_only=all(verdict.kind in _CHANGES for verdict in queued),
                )
            )
        return True

    def _selecting(self, sink: ReplySink, db: int) -> ReplySink:
        self._db_undecided = True

        def deliver(reply: bytes) -> None:
            if not wire.is_error(reply):
                self._db = db
            self._db_undecided = False
            sink(reply)

        return deliver

    def _do_multi(self, arguments: tuple[bytes, ...]) -> bytes:
        if self._transaction is not None:
            return wire.encode_error("ERR MULTI calls can not be nested")
        self._transaction, self._transaction_refused, self._transaction_db = [], False, self._db
        return wire.OK

    def _do_discard(self, arguments: tuple[bytes, ...]) -> bytes:
        if self._transaction is None:
            return wire.encode_error("ERR DISCARD without MULTI")
        self._transaction = None
        return wire.OK

    def _do_select(self, arguments: tuple[bytes, ...]) -> bytes:
        # The length first: Python refuses to convert thousands of digits.
        if (
            len(arguments) != 2
            or len(arguments[1]) > _DB_DIGITS
            or not arguments[1].isdigit()
            or int(arguments[1]) >= self._hub.databases
        ):
            self._transaction_refused = self._transaction is not None
            return wire.encode_error("ERR DB index is out of range")
        if self._transaction is not None:
            self._transaction_db = int(arguments[1])
            self._transaction.append(Verdict(Kind.WRITE, (b"SELECT", arguments[1])))
            return wire.QUEUED
        self._db = int(arguments[1])
        return wire.OK

    def _do_ping(self, arguments: tuple[bytes, ...]) -> bytes:
        if self._transaction is not None:
            self._transaction.append(Verdict(Kind.READ, arguments))
            return wire.QUEUED
        return wire.encode_bulk(arguments[1]) if len(arguments) > 1 else wire.PONG

    def _do_echo(self, arguments: tuple[bytes, ...]) -> bytes:
        if len(arguments) != 2:
            self._transaction_refused = self._transaction is not None
            return _arity(arguments)
        if self._transaction is not None:
            self._transaction.append(Verdict(Kind.READ, arguments))
            return wire.QUEUED
        return wire.encode_bulk(arguments[1])

    def _do_script(self, arguments: tuple[bytes, ...]) -> bytes:
        return answer_script(arguments, self._hub.allowance.store)

    def _do_quit(self, arguments: tuple[bytes, ...]) -> bytes:
        self._closing = True
        return wire.OK

    def _do_reset(self, arguments: tuple[bytes, ...]) -> bytes:
        self._transaction = None
        self._db = self._hub.first_db
        self.name = b""
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None
        return b"+RESET\r\n"

    def _do_unwatch(self, arguments: tuple[bytes, ...]) -> bytes:
        return wire.OK

    def _do_auth(self, arguments: tuple[bytes, ...]) -> bytes:
        if self._hub.login is not None:
            return self._hub.login.auth_error(arguments) or wire.OK
        return wire.encode_error(
            "ERR AUTH called, but the link asks for no password on its loopback port; that of Redis belongs into the "
            "link's own connection string"
        )

    def _do_hello(self, arguments: tuple[bytes, ...]) -> bytes:
        if len(arguments) > 1 and arguments[1] != b"2":
            return NOPROTO
        if self._hub.login is not None and (error := self._hub.login.hello_error(arguments, known=True)):
            return error
        fields = {b"server": b"redis", b"version": b"7.0.0", b"mode": b"standalone", b"role": b"master"}
        flat = [wire.encode_bulk(item) for pair in fields.items() for item in pair]
        flat += [wire.encode_bulk(b"proto"), wire.encode_integer(2)]
        flat += [wire.encode_bulk(b"id"), wire.encode_integer(self._client_id)]
        flat += [wire.encode_bulk(b"modules"), wire.EMPTY_ARRAY]
        return wire.join_array(flat)

    def _do_client(self, arguments: tuple[bytes, ...]) -> bytes:
        return client_command.answer(self, arguments, self._hub.sessions())

    @property
    def client_id(self) -> int:
        """The number that CLIENT ID tells."""
        return self._client_id

    @property
    def db(self) -> int:
        """The database that is selected."""
        return self._db

    @property
    def subscriptions(self) -> tuple[int, int, int]:
        """How many channels, patterns and shard channels are subscribed to."""
        return self._subscriber.counts if self._subscriber is not None else (0, 0, 0)

    @property
    def queued(self) -> int:
        """How many commands are in the transaction, -1 without one."""
        return -1 if self._transaction is None else len(self._transaction)

    def kill(self) -> None:
        """End the connection, after the reply under way if it is the client's own."""
        if self._corked:
            self._closing = self._deaf = True
        else:
            self._close()


def _arity(arguments: tuple[bytes, ...]) -> bytes:
    name = arguments[0].decode(errors="replace").lower()
    return wire.encode_error(f"ERR wrong number of arguments for '{name}' command")
