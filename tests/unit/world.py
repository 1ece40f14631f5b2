"""Three nodes, one link, and everything that can go wrong between them: the machine that hypothesis drives.

Invariant: every data set anywhere is S_k, the result of entries 1 to k, and its marker, unless somebody removed it,
says k. Where the link has to stop, the world does what its message tells an operator to do, and starts it again.
"""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Callable, Iterable

import hiredis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis.exceptions import ConnectionError as RedisConnectionError

from trader_node.link import wire
from trader_node.link.decisions import Cause, Decision, Halt, Ready, Reconnect
from trader_node.link.entries import JOURNALLED_REPLY, LOST_REPLY, Entry, Form, Write
from trader_node.link.journal import (
    Journal,
    decode_records,
    encode_applied,
    encode_entry,
    encode_replaced,
    encode_skip,
    encode_void,
)
from trader_node.link.replicas import ReplicaMarkers
from trader_node.link.sequencer import Limits, Phase, Sequencer
from trader_node.link.state import LinkState
from trader_node.link.url import parse_redis_url

from .model import BROKEN_REPLY, MARKER, NOPERM, Connection, Node

#: Seconds that an entry is kept at least, and seconds after which what a node holds is on its disk.
MINIMUM_AGE, DISK_LAG = 60.0, 5.0
#: Stands for a command that empties the data set.
FLUSH = -1
NO_RIGHT = wire.encode_error(NOPERM)
TARGET = parse_redis_url("redis://127.0.0.1:1")


class Disk:
    """The journal's file: what has been written survives the link."""

    def __init__(self) -> None:
        self.data = b""
        self._pending = b""

    def append(self, entry: Entry) -> None:
        self._pending += encode_entry(entry)

    def append_void(self, seq: int) -> None:
        self._pending += encode_void(seq)

    def append_skip(self, seq: int) -> None:
        self._pending += encode_skip(seq)

    def append_replaced(self, entry: Entry) -> None:
        self._pending += encode_replaced(entry)

    def append_applied(self, seq: int) -> None:
        self._pending += encode_applied(seq)

    def flush(self) -> None:
        self.data += self._pending
        self._pending = b""

    def lose_pending(self) -> None:
        self._pending = b""

    def read(self, first_seq: int) -> Journal:
        journal = Journal(first_seq)
        for record in decode_records(self.data, 0).records:
            # A trimmed entry is still in this file: a real one ends with its segment.
            if record.seq >= first_seq:
                journal.take(record)
        return journal


class _Shown:
    """What a node answers to the link's question how far it is."""

    def __init__(self, node: Node, silent: bool) -> None:
        self._node = node
        self._silent = silent

    async def hmget(self, *_: object) -> tuple[str | None, str | None]:
        if self._silent:
            raise RedisConnectionError("no answer")
        owner, seq = (self._node.data.marker.get(field) for field in (b"o", b"s"))
        return (None if owner is None else owner.decode(), None if seq is None else seq.decode())


def _decoded(reply: bytes) -> list[object]:
    reader = hiredis.Reader()
    reader.feed(reply)
    return list(iter(reader.gets, False))


class World(RuleBasedStateMachine):
    """Three nodes, one link, and everything that can go wrong between them."""

    sequencer_class: type[Sequencer] = Sequencer
    replicas_class: type[ReplicaMarkers] = ReplicaMarkers
    #: Whether the journal is written before a transaction is sent, or only some time after its answer.
    journal_first = True

    def __init__(self) -> None:
        super().__init__()
        self.nodes = [Node(name) for name in "abc"]
        self.nodes[0].master = True
        self.disk = Disk()
        self.state = LinkState(incarnation=1)
        self.connection: Connection | None = None
        self.now = 0.0
        self.next_value = 0
        #: What the commands of each accepted entry push; None for one that Redis does not know, or FLUSH.
        self.accepted: dict[int, list[int | None]] = {}
        #: Entries that hold reads, so that their replies are not of the usual form.
        self.with_reads: set[int] = set()
        #: What the client of each entry was told.
        self.replies: dict[int, bytes] = {}
        #: Somebody deleted a marker, so that the link may have to stop.
        self.tampered = False
        #: What has happened in this world, so that a test can tell that it was worth walking.
        self.seen: Counter[str] = Counter()
        self._start_link(Journal())

    def _start_link(self, journal: Journal) -> None:
        limits = Limits(group_entries=3, retry_delay=0.0, operator_delay=0.0)
        self.link = self.sequencer_class(journal, self.state, MARKER, log=self.disk, limits=limits)
        self.replicas = self.replicas_class(TARGET, MARKER, self.state.journal_id)

    def _count(self) -> None:
        """Note what this run of the link has met, before it ends."""
        counters = self.link.counters
        for name in ("replayed", "fenced", "lost_replies", "told_early", "late_errors", "refused"):
            self.seen[name] += getattr(counters, name)

    @initialize(served=st.integers(0, 5))
    def begin(self, served: int) -> None:
        if served:
            self.serve(0, 1)

    # --- clients ---

    def _accept(self, write: Write, values: list[int | None]) -> None:
        seq = self.link.journal.last_seq + 1
        self.accepted[seq] = values
        tell = write.sink

        def sink(reply: bytes) -> None:
            assert seq not in self.replies, "answered twice"
            self.replies[seq] = reply
            self._note_refusals(seq, write.form, reply)
            if tell is not None:
                tell(reply)

        write.sink = sink
        self.link.accept(write, self.now)

    def _note_refusals(self, seq: int, form: Form, reply: bytes) -> None:
        """Of what Redis refused, nothing may ever be applied."""
        if reply.startswith(b"-EXECABORT"):
            self.accepted[seq] = []
        elif form is not Form.TRANSACTION and NO_RIGHT in reply:
            values, replies = self.accepted[seq], _decoded(reply)
            self.accepted[seq] = [v for v, r in zip(values, replies, strict=True) if NOPERM not in str(r)]

    @precondition(lambda self: self.link.numbered)
    @rule(commands=st.integers(1, 3), form=st.sampled_from(Form))
    def write(self, commands: int, form: Form) -> None:
        values = self._new_values(1 if form is Form.SINGLE else commands)
        payload = b"".join(wire.encode_command(b"RPUSH", b"list", value) for value in values)
        self._accept(Write(payload, len(values), form), list(values))

    def _new_values(self, count: int) -> list[int]:
        first, self.next_value = self.next_value, self.next_value + count
        return list(range(first, first + count))

    @precondition(lambda self: self.link.numbered)
    @rule(broken=st.lists(st.booleans(), min_size=2, max_size=3))
    def batch_of_which_redis_refuses_some(self, broken: list[bool]) -> None:
        values = [None if each else self._new_values(1)[0] for each in broken]
        payload = b"".join(
            wire.encode_command(b"BROKEN") if value is None else wire.encode_command(b"RPUSH", b"list", value)
            for value in values
        )
        self._accept(Write(payload, len(values), Form.BATCH), list(values))

    @precondition(lambda self: self.link.numbered)
    @rule()
    def flush(self) -> None:
        self._accept(Write(wire.encode_command(b"FLUSHALL"), 1), [FLUSH])

    @precondition(lambda self: self.link.numbered)
    @rule()
    def write_that_redis_refuses(self) -> None:
        self._accept(Write(wire.encode_command(b"BROKEN"), 1), [None])

    # --- the link's shell ---

    def _write_journal(self) -> None:
        if self.journal_first:
            self.disk.flush()

    def _live(self) -> bool:
        return self.connection is not None

    @precondition(lambda self: self.connection is None)
    @rule(index=st.integers(0, 2))
    def connect(self, index: int) -> None:
        self.connection = Connection(self.nodes[index])
        self.connection.send(self.link.connected(self.now))

    @precondition(_live)
    @rule()
    def pump(self) -> None:
        assert self.connection is not None
        self._write_journal()
        self.connection.send(self.link.next_group(self.now))

    @precondition(_live)
    @rule(count=st.integers(1, 12), send_first=st.booleans(), unsent=st.integers(0, 40), unheard=st.integers(0, 40))
    def answer(self, count: int, send_first: bool = True, unsent: int = 0, unheard: int = 0) -> None:
        """Let the node execute commands and the link take the answers; of both, the last bytes may be under way."""
        assert self.connection is not None
        self.connection.execute(count, unsent)
        if not self.connection.open:
            self.lose_connection()
            return
        reply, decision = self.link.receive(self.connection.take(unheard), self.now)
        if send_first and decision is None:
            self.pump()
        self.link.deliver()
        if reply:
            self._write_journal()
            self.connection.send(reply)
        self._decided(decision)

    @rule(index=st.integers(0, 2), rounds=st.integers(1, 4))
    def serve(self, index: int, rounds: int) -> None:
        """Go a long way at once: a handshake with a master and whole transactions."""
        masters = [number for number, node in enumerate(self.nodes) if node.master]
        index = index if index in masters else masters[index % len(masters)]
        for _ in range(rounds + 2):
            if self.connection is None:
                self.connect(index)
            self.pump()
            self.answer(50)

    @precondition(lambda self: self._live() and self.link.phase is Phase.READY)
    @rule()
    def freeze_and_thaw(self) -> None:
        """A frozen master: the link gives the connection up, comes back, and then the old bytes run."""
        assert self.connection is not None
        index = self.nodes.index(self.connection.node)
        self.pump()
        self.lose_connection()
        self.serve(index, 2)
        self.run_late_bytes(index)

    @precondition(lambda self: self._live() and self.link.phase is Phase.READY)
    @rule(executed=st.integers(0, 12), again=st.booleans(), deleted=st.booleans())
    def lose_answers(self, executed: int, again: bool, deleted: bool = False) -> None:
        """The node executes what it got, or a part of that, and the answers get lost, and maybe the marker, too."""
        assert self.connection is not None
        index = self.nodes.index(self.connection.node)
        self.pump()
        self.connection.execute(executed)
        self.lose_connection()
        if deleted:
            self.delete_marker(index)
        if again:
            self.serve(index, 1)

    @precondition(lambda self: self.connection is None)
    @rule(first=st.integers(0, 2), second=st.integers(0, 2), executed=st.integers(0, 12))
    def failover_during_replay(self, first: int, second: int, executed: int) -> None:
        self.promote(first)
        self.connect(first)
        self.answer(50)
        if self.connection is not None:
            self.answer(50)
        if self.connection is not None:
            self.pump()
            self.connection.execute(executed)
            self.lose_connection()
            self.promote(second)
            self.serve(second, 2)

    def _decided(self, decision: Decision | None) -> None:
        match decision:
            case Halt(reason, cause):
                self._stopped(reason, cause)
            case Reconnect():
                self.lose_connection()
            case Ready() | None:
                pass

    def _stopped(self, reason: str, cause: Cause) -> None:
        """Do as the operator is told."""
        match cause:
            case Cause.MARKER_LOST | Cause.OUTCOME_UNKNOWN:
                assert self.tampered, f"halted without need: {reason}"
                self._bring_markers_back()
            case Cause.REPLAY_REFUSED:
                assert any(node.forbidden for node in self.nodes), f"halted without need: {reason}"
            case _:
                raise AssertionError(f"halted without need: {reason}")
        self.seen[f"halted: {cause.value}"] += 1
        assert self.connection is not None
        assert not self.link.acknowledge_held(self.now), "told that it will be applied, by a link that has stopped"
        assert self.link.next_group(self.now) == b""
        self.crash_link()

    def _bring_markers_back(self) -> None:
        self.tampered = False
        for node in self.nodes:
            for data in [node.data, *(snapshot for _, snapshot in node.snapshots)]:
                if data.seq and not data.marker:
                    data.marker = {b"o": data.owner, b"s": b"%d" % data.seq}
            node.touch_marker()

    @precondition(_live)
    @rule()
    def lose_connection(self) -> None:
        # The bytes that the node has not executed stay with it and may run at any later time.
        self.link.disconnected()
        self.connection = None

    @rule()
    def acknowledge_held(self) -> None:
        self._write_journal()
        self.link.acknowledge_held(self.now)

    @rule()
    def crash_link(self) -> None:
        self._count()
        self.seen["crashes of the link"] += 1
        self.disk.lose_pending()
        known = self.disk.read(self.link.journal.first_seq)
        for seq in [seq for seq in self.accepted if seq > known.last_seq]:
            assert seq not in self.replies, f"entry {seq} was acknowledged and is not in the journal"
            del self.accepted[seq]
            self.with_reads.discard(seq)
        self.state = copy.copy(self.state)
        self.state.incarnation += 1
        self.connection = None
        self._start_link(known)

    # --- time, and what is forgotten ---

    def _look(self, silent: Iterable[int] = ()) -> None:
        for index, node in enumerate(self.nodes):
            address = (node.name, 6379)
            if index in silent:
                # As if it had been said already: each silence is logged once.
                self.replicas.silent.add(address)
            self.replicas._connections[address] = _Shown(node, index in silent)  # type: ignore[assignment]
            _run(self.replicas._ask(address), self.now, self.replicas._history.setdefault(address, deque()))

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]), silent=st.sets(st.integers(0, 2), max_size=2))
    def time_passes(self, seconds: float, silent: set[int]) -> None:
        """Some nodes do not answer meanwhile; at the end, what all have held for long enough is forgotten."""
        self._look(silent)
        for node in self.nodes:
            node.save(self.now, DISK_LAG)
        self.now += seconds
        for node in self.nodes:
            node.save(self.now, DISK_LAG)
        self._look(silent)
        self.trim()

    @rule()
    def trim(self) -> None:
        trimmed = self.link.trim(self.replicas.held_everywhere(MINIMUM_AGE), self.now - MINIMUM_AGE)
        self.seen["trimmed"] += trimmed

    # --- Redis and what happens to it ---

    @rule(index=st.integers(0, 2))
    def run_late_bytes(self, index: int) -> None:
        for connection in list(self.nodes[index].connections):
            if connection is not self.connection:
                connection.execute(1 << 30)

    @rule(source=st.integers(0, 2), replica=st.integers(0, 2))
    def replicate(self, source: int, replica: int) -> None:
        if source != replica and self.nodes[source].master and not self.nodes[replica].master:
            self.nodes[replica].data = self.nodes[source].snapshot()
            self.nodes[replica].touch_marker()

    @rule(index=st.integers(0, 2), seconds=st.sampled_from([0.0, 61.0]), absent=st.sets(st.integers(0, 2), max_size=1))
    def all_follow(self, index: int, seconds: float, absent: set[int]) -> None:
        """A quiet time: one master, and the others have what it has, but for one that may be down."""
        self.serve(index, 1)
        for number, node in enumerate(self.nodes):
            if self.connection is not None and node is not self.connection.node and number not in absent:
                self.demote(number)
                self.replicate(self.nodes.index(self.connection.node), number)
        self.time_passes(seconds, absent)

    @rule(index=st.integers(0, 2))
    def promote(self, index: int) -> None:
        node = self.nodes[index]
        if not node.master:
            node.master = True
            node.begin_history()

    @rule(index=st.integers(0, 2))
    def demote(self, index: int) -> None:
        others = [node for node in self.nodes if node.master and node is not self.nodes[index]]
        if self.nodes[index].master and others:
            node = self.nodes[index]
            served = next((other for other in others if self.connection and other is self.connection.node), others[0])
            node.master = False
            node.data = served.snapshot()
            node.replid = served.replid
            node.touch_marker()

    @rule(index=st.integers(0, 2))
    def save(self, index: int) -> None:
        self.nodes[index].save(self.now, DISK_LAG)

    @rule(index=st.integers(0, 2), back=st.integers(0, 2))
    def restart_from_disk(self, index: int, back: int) -> None:
        node = self.nodes[index]
        node.save(self.now, DISK_LAG)
        node.restart(node.snapshots[max(len(node.snapshots) - 2 - back, 0)][1])

    @rule(index=st.integers(0, 2), refuse=st.sampled_from(["", "NOREPLICAS Not enough good replicas to write."]))
    def set_refusal(self, index: int, refuse: str) -> None:
        self.nodes[index].refuse = refuse

    def _nothing_is_unsure(self) -> bool:
        # What was sent to another node may yet run there, so that node and this one have to have the same rights.
        return self._live() and self.link.caught_up and self.link._highest_sent <= self.link.applied

    @precondition(_nothing_is_unsure)
    @rule(commands=st.integers(1, 3), form=st.sampled_from(Form), executed=st.integers(0, 8), given_back=st.booleans())
    def take_rights_away(self, commands: int, form: Form, executed: int, given_back: bool) -> None:
        """The link comes back to a master that has the bytes of a write already, but not the right to run them."""
        assert self.connection is not None
        node = self.connection.node
        self.write(commands, form)
        self.pump()
        self.connection.execute(executed)
        self.lose_connection()
        self.serve(self.nodes.index(node), 0)
        node.forbidden = {b"RPUSH"}
        if self.connection is not None and self.connection.node is node:
            self.pump()
            self.answer(50)
        if given_back:
            node.forbidden = set()
            self.run_late_bytes(self.nodes.index(node))
            self.every_data_set_is_a_prefix()
        node.forbidden = set()

    @rule(index=st.integers(0, 2))
    def delete_marker(self, index: int) -> None:
        if self.nodes[index].master and self.nodes[index].data.marker and not self.tampered:
            self.tampered = True
            self.nodes[index].delete_marker()

    # --- what must hold ---

    def _expected(self, seq: int) -> list[int]:
        values: list[int] = []
        for number in range(1, seq + 1):
            for value in self.accepted.get(number, []):
                if value == FLUSH:
                    values.clear()
                elif value is not None:
                    values.append(value)
        return values

    @invariant()
    def every_data_set_is_a_prefix(self) -> None:
        for node in self.nodes:
            for data in [node.data, *(snapshot for _, snapshot in node.snapshots)]:
                assert data.values == self._expected(data.seq), f"{node.name}: entry {data.seq}, {data.values}"

    @invariant()
    def replies_are_true(self) -> None:
        for seq, reply in self.replies.items():
            pushed = [value for value in self.accepted[seq] if value is not None]
            if not pushed or LOST_REPLY in reply or JOURNALLED_REPLY in reply or seq in self.with_reads:
                continue
            length, parts = len(self._expected(seq - 1)), []
            for value in pushed:
                length = 0 if value == FLUSH else length + 1
                parts.append(wire.OK if value == FLUSH else wire.encode_integer(length))
            done = reply.replace(BROKEN_REPLY, b"").replace(NO_RIGHT, b"")
            assert done in (b"".join(parts), wire.join_array(parts)), f"entry {seq} was answered {reply!r}"

    def teardown(self) -> None:
        """Heal everything: whatever happened, the end is every accepted write once, in order."""
        for node in self.nodes:
            node.refuse = ""
            node.forbidden = set()
        self.promote(0)
        if self._live():
            self.lose_connection()
        for _ in range(400):
            if self.connection is None:
                self.connect(0)
            self.pump()
            self.answer(50)
            if self.link.caught_up and not self.link.unfinished:
                break
        assert self.link.caught_up, self.link
        self.every_data_set_is_a_prefix()
        self.replies_are_true()
        last = max(self.accepted, default=0)
        assert self.nodes[0].data.values == self._expected(last)
        assert self.nodes[0].data.seq in (0, last)
        self._count()


def _run(question: object, now: float, history: deque[tuple[float, int]]) -> None:
    """Run a coroutine that waits for nothing, at a time of this world."""
    sightings = len(history)
    step: Callable[[None], object] = question.send  # type: ignore[attr-defined]
    try:
        step(None)
    except StopIteration:
        if len(history) > sightings:
            history[-1] = (now, history[-1][1])
        return
    raise AssertionError("it waits")
