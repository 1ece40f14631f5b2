"""The guarantee, walked by hypothesis: every order of write, crash, failover, roll-back, late bytes and trim.

Invariant: every data set anywhere is S_k, the result of entries 1 to k, and its marker says k. The mutants at the end
each break one rule of the sequencer, and each has to be caught.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from trader_node.link import wire
from trader_node.link.decisions import Decision, Halt, Ready, Reconnect
from trader_node.link.entries import JOURNALLED_REPLY, LOST_REPLY, Entry, Form, Write
from trader_node.link.journal import Journal, decode_records, encode_applied, encode_entry, encode_replaced, encode_void
from trader_node.link.sequencer import Limits, Sequencer
from trader_node.link.sequencer import Phase as LinkPhase
from trader_node.link.state import LinkState

from .model import BROKEN_REPLY, MARKER, Connection, Node


class Disk:
    """The journal's file: what has been written survives the link."""

    def __init__(self) -> None:
        self.data = b""
        self._pending = b""

    def append(self, entry: Entry) -> None:
        self._pending += encode_entry(entry)

    def append_void(self, seq: int) -> None:
        self._pending += encode_void(seq)

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


class World(RuleBasedStateMachine):
    """Three nodes, one link, and everything that can go wrong between them."""

    sequencer_class: type[Sequencer] = Sequencer
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
        #: Values of each accepted entry, by its number; None if Redis refused it for good.
        self.accepted: dict[int, list[int] | None] = {}
        #: Entries that empty the data set.
        self.flushes: set[int] = set()
        #: What the client of each entry was told.
        self.replies: dict[int, bytes] = {}
        self.link = self._new_link(Journal())

    def _new_link(self, journal: Journal) -> Sequencer:
        limits = Limits(group_entries=3, retry_delay=0.0, operator_delay=0.0)
        return self.sequencer_class(journal, self.state, MARKER, log=self.disk, limits=limits)

    # --- clients ---

    def _accept(self, payload: bytes, values: list[int], form: Form, broken: int = 0) -> None:
        seq = self.link.journal.last_seq + 1
        commands = len(values) + broken
        self.accepted[seq] = values

        def sink(reply: bytes) -> None:
            assert seq not in self.replies, "answered twice"
            self.replies[seq] = reply

        write = Write(payload, commands, form, sink=sink)
        self.link.accept(write, self.now)

    @precondition(lambda self: self.link.numbered)
    @rule(commands=st.integers(1, 3), form=st.sampled_from(Form))
    def write(self, commands: int, form: Form) -> None:
        values = self._new_values(1 if form is Form.SINGLE else commands)
        payload = b"".join(wire.encode_command(b"RPUSH", b"list", value) for value in values)
        self._accept(payload, values, form)

    def _new_values(self, count: int) -> list[int]:
        first, self.next_value = self.next_value, self.next_value + count
        return list(range(first, first + count))

    @precondition(lambda self: self.link.numbered)
    @rule(broken=st.lists(st.booleans(), min_size=2, max_size=3))
    def batch_of_which_redis_refuses_some(self, broken: list[bool]) -> None:
        values = self._new_values(broken.count(False))
        left = iter(values)
        payload = b"".join(
            wire.encode_command(b"BROKEN") if each else wire.encode_command(b"RPUSH", b"list", next(left))
            for each in broken
        )
        self._accept(payload, values, Form.BATCH, broken.count(True))

    @precondition(lambda self: self.link.numbered)
    @rule()
    def flush(self) -> None:
        self.flushes.add(self.link.journal.last_seq + 1)
        self._accept(wire.encode_command(b"FLUSHALL"), [], Form.SINGLE, 1)

    @precondition(lambda self: self.link.numbered)
    @rule()
    def write_that_redis_refuses(self) -> None:
        self._accept(wire.encode_command(b"BROKEN"), [], Form.SINGLE, 1)

    # --- the link's shell ---

    def _write_journal(self) -> None:
        if self.journal_first:
            self.disk.flush()

    def _live(self) -> bool:
        return self.connection is not None and self.link.phase is not LinkPhase.HALTED

    @precondition(lambda self: self.connection is None and self.link.phase is not LinkPhase.HALTED)
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
    @rule(count=st.integers(1, 12), send_first=st.booleans())
    def answer(self, count: int, send_first: bool = True) -> None:
        assert self.connection is not None
        self.connection.execute(count)
        data, self.connection.answers = b"".join(self.connection.answers), []
        if not self.connection.open:
            self.lose_connection()
            return
        reply, decision = self.link.receive(data, self.now)
        if send_first and decision is None:
            self.pump()
        self.link.deliver()
        if reply:
            self._write_journal()
            self.connection.send(reply)
        self._decided(decision)

    @precondition(lambda self: self.link.phase is not LinkPhase.HALTED)
    @rule(index=st.integers(0, 2), rounds=st.integers(1, 4))
    def serve(self, index: int, rounds: int) -> None:
        """Go a long way at once: a handshake and whole transactions."""
        for _ in range(rounds + 2):
            if self.connection is None:
                self.connect(index)
            self.pump()
            self.answer(50)

    @precondition(lambda self: self._live() and self.link.phase is LinkPhase.READY)
    @rule()
    def freeze_and_thaw(self) -> None:
        """A frozen master: the link gives the connection up, comes back, and then the old bytes run."""
        assert self.connection is not None
        index = self.nodes.index(self.connection.node)
        self.pump()
        self.lose_connection()
        self.serve(index, 2)
        self.run_late_bytes(index)

    def _decided(self, decision: Decision | None) -> None:
        match decision:
            case Halt(reason, _):
                raise AssertionError(f"halted without need: {reason}")
            case Reconnect():
                self.lose_connection()
            case Ready() | None:
                pass

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
        self.disk.lose_pending()
        known = self.disk.read(self.link.journal.first_seq)
        for seq in [seq for seq in self.accepted if seq > known.last_seq]:
            assert seq not in self.replies, f"entry {seq} was acknowledged and is not in the journal"
            del self.accepted[seq]
            self.flushes.discard(seq)
        self.state = copy.copy(self.state)
        self.state.incarnation += 1
        self.connection = None
        self.link = self._new_link(known)

    @rule()
    def trim(self) -> None:
        # Snapshots stand for what may be on a disk; the minimum age keeps the link from trimming what they lack.
        for node in self.nodes:
            node.snapshots = node.snapshots[-2:]
        held = min(data.seq for node in self.nodes for data in [node.data, *node.snapshots])
        self.link.trim(held, self.now)

    # --- Redis and what happens to it ---

    @rule(index=st.integers(0, 2))
    def run_late_bytes(self, index: int) -> None:
        for connection in list(self.nodes[index].connections):
            if connection is not self.connection:
                connection.execute(len(connection.to_execute))

    @rule(source=st.integers(0, 2), replica=st.integers(0, 2))
    def replicate(self, source: int, replica: int) -> None:
        if source != replica and self.nodes[source].master and not self.nodes[replica].master:
            self.nodes[replica].data = self.nodes[source].snapshot()
            self.nodes[replica].touch_marker()

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
            node.master = False
            node.data = others[0].snapshot()
            node.replid = others[0].replid
            node.touch_marker()

    @rule(index=st.integers(0, 2))
    def save(self, index: int) -> None:
        self.nodes[index].snapshots.append(self.nodes[index].snapshot())

    @rule(index=st.integers(0, 2), back=st.integers(0, 2))
    def restart_from_disk(self, index: int, back: int) -> None:
        node = self.nodes[index]
        node.restart(node.snapshots[max(len(node.snapshots) - 1 - back, 0)])

    @rule(index=st.integers(0, 2), refuse=st.sampled_from(["", "NOREPLICAS Not enough good replicas to write."]))
    def set_refusal(self, index: int, refuse: str) -> None:
        self.nodes[index].refuse = refuse

    # --- what must hold ---

    def _expected(self, seq: int) -> list[int]:
        begin = max((number for number in self.flushes if number <= seq), default=1)
        return [value for number in range(begin, seq + 1) for value in self.accepted.get(number) or []]

    @invariant()
    def every_data_set_is_a_prefix(self) -> None:
        for node in self.nodes:
            for data in [node.data, *node.snapshots]:
                assert data.values == self._expected(data.seq), f"{node.name}: marker {data.seq}, {data.values}"

    @invariant()
    def replies_are_true(self) -> None:
        for seq, reply in self.replies.items():
            values = self.accepted[seq]
            if not values or LOST_REPLY in reply or JOURNALLED_REPLY in reply:
                continue
            before = len(self._expected(seq - 1))
            lengths = [wire.encode_integer(before + index + 1) for index in range(len(values))]
            done = reply.replace(BROKEN_REPLY, b"")
            assert done in (b"".join(lengths), wire.join_array(lengths)), f"entry {seq} was answered {reply!r}"

    def teardown(self) -> None:
        """Heal everything: whatever happened, the end is every accepted write once, in order."""
        for node in self.nodes:
            node.refuse = ""
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


TestModel = World.TestCase
TestModel.settings = settings(
    max_examples=500, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)


# --- mutants -------------------------------------------------------------------------------------------------------


class NoFence(Sequencer):
    """Does not WATCH the marker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._marker.watch = wire.encode_command(b"PING")

    def receive(self, data: bytes, now: float) -> tuple[bytes, Decision | None]:
        return super().receive(data, now)


class ReplayOneTooFar(Sequencer):
    """Skips the first entry behind the marker."""

    def _taken_over(self, replies: list[bytes], now: float) -> Decision:
        decision = super()._taken_over(replies, now)
        if isinstance(decision, Ready) and decision.replay:
            self._next_seq += 1
        return decision


class NoReplay(Sequencer):
    """Sends only what was never acknowledged, as plain hold-and-retry does."""

    def _taken_over(self, replies: list[bytes], now: float) -> Decision:
        decision = super()._taken_over(replies, now)
        if isinstance(decision, Ready):
            self._next_seq = max(self._next_seq, self._highest_acknowledged + 1)
        return decision


class ReplayFromAcknowledged(Sequencer):
    """Sends the transaction of unknown outcome again without looking at the marker."""

    def _taken_over(self, replies: list[bytes], now: float) -> Decision:
        decision = super()._taken_over(replies, now)
        if isinstance(decision, Ready):
            self._next_seq = min(self._next_seq, max(self._next_seq - 1, self.journal.first_seq))
        return decision


class TrimTooEarly(Sequencer):
    """Forgets entries when the master has them."""

    def trim(self, held_everywhere: int, accepted_before: float) -> int:
        return super().trim(self._applied, accepted_before)


class AcknowledgeOnQueued(Sequencer):
    """Answers clients before EXEC has answered."""

    def next_group(self, now: float) -> bytes:
        data = super().next_group(now)
        if self._group is not None:
            for entry in self._group.entries:
                if not entry.acknowledged and not entry.void:
                    entry.deliver([wire.encode_integer(0)] * entry.commands)
        return data


class VerifyNothingAfterRefusal(Sequencer):
    """Sends the next transaction after a refused one without reading the marker back."""

    def _verified(self, group: Any, reply: bytes) -> Decision | None:
        if not group.executed:
            self._group = None
            return None
        return super()._verified(group, reply)


MUTANTS = [NoFence, ReplayOneTooFar, NoReplay, ReplayFromAcknowledged, TrimTooEarly, AcknowledgeOnQueued]


def _assert_caught(world: type[World]) -> None:
    """Walk until the broken link is found out; shrinking the story is not needed."""
    search = settings(
        max_examples=5000,
        stateful_step_count=60,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises((AssertionError, FlakyFailure)):
        run_state_machine_as_test(world, settings=search)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_mutant_is_caught(mutant: type[Sequencer]) -> None:
    class Broken(World):
        sequencer_class = mutant

    _assert_caught(Broken)


def test_journal_written_too_late_is_caught() -> None:
    class Broken(World):
        journal_first = False

    _assert_caught(Broken)
