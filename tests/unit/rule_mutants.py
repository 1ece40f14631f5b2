"""What takes a rule out of the link, and nothing else; see ``test_rules``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from trader_node.link import commands, errors, sequencer, wire
from trader_node.link.commands import Kind
from trader_node.link.decisions import Ready
from trader_node.link.group import CommandRefusal, Group
from trader_node.link.journal import Journal
from trader_node.link.marker import Commit, Marker, MarkerCommands, Refusal, Situation, TakeOver
from trader_node.link.pins import PINS
from trader_node.link.replicas import ReplicaMarkers
from trader_node.link.sequencer import Sequencer
from trader_node.link.session import Session
from trader_node.link.state import LinkState
from trader_node.link.wire import ReplyFramer

from . import test_marker
from .model import MARKER
from .rules import Patch, both, wrap

# --- what takes a rule out -------------------------------------------------------------------------------------------


def decided(change: Callable[..., Any]) -> Callable[[Patch], None]:
    """Patch ``decide``: ``change`` gets the marker, situation, state and journal and returns those to decide on."""

    def around(original: Any, *given: Any) -> Any:
        return original(*change(*given))

    # Tests of the decision alone have a name for it of their own.
    return both(wrap(sequencer, "decide", around), wrap(test_marker, "decide", around))


def in_situation(**fields: Any) -> Callable[[Patch], None]:
    return decided(lambda found, now, mine, kept: (found, replace(now, **fields), mine, kept))


def taken_over(change: Callable[[Sequencer, Ready], None]) -> Callable[[Patch], None]:
    """Patch the end of the handshake: ``change`` spoils what is to be sent next."""

    def around(original: Any, self: Sequencer, replies: list[bytes], now: float) -> Any:
        decision = original(self, replies, now)
        if isinstance(decision, Ready):
            change(self, decision)
        return decision

    return wrap(Sequencer, "_taken_over", around)


def unwatched(original: Any, self: MarkerCommands, key: str) -> None:
    original(self, key)
    self.watch = wire.encode_command(b"PING")


def without_touching(original: Any, self: Sequencer, replies: list[bytes], now: float) -> Any:
    """Shake hands without writing the marker where that is not needed to set its number."""
    data, decision = original(self, replies, now)
    return data.replace(self._marker.set(self._owner, None), wire.encode_command(b"PING")), decision


def believing(original: Any, self: Sequencer, replies: list[bytes], now: float) -> Any:
    pair = [wire.encode_bulk(self._owner.encode()), wire.encode_bulk(b"%d" % self._takeover_seq)]
    return original(self, [*replies[:5], wire.join_array(pair)], now)


def judged_before_the_watch(original: Any, replies: list[bytes], **named: Any) -> Any:
    *before, executed, watched, _, databases = replies
    return original([*before, executed, watched, (wire.split_array(executed) or [b""])[-1], databases], **named)


def verifies_nothing(original: Any, self: Sequencer, group: Group, reply: bytes) -> None:
    self._group = None


def verifies_only_what_was_applied(original: Any, self: Sequencer, group: Group, reply: bytes) -> Any:
    if group.executed:
        return original(self, group, reply)
    self._group = None
    return None


def only_if(condition: Callable[[str], bool], otherwise: Any = None) -> Callable[..., Any]:
    """Patch of the taking of an error: pass over those for which the condition does not hold."""

    def around(original: Any, self: Sequencer, text: str) -> Any:
        return original(self, text) if condition(text) else otherwise

    return around


def nil_is_applied(original: Any, self: Sequencer, group: Group, reply: bytes, now: float) -> Any:
    if reply == wire.NIL_ARRAY:
        reply = wire.join_array([wire.encode_integer(0)] * group.queued)
    return original(self, group, reply, now)


def error_is_not_applied(original: Any, self: Sequencer, group: Group, results: list[bytes], now: float) -> Any:
    if not any(wire.is_error(result) for result in results):
        original(self, group, results, now)


def marker_is_not_new(original: Any, self: Group, results: list[bytes]) -> bytes | None:
    return original(self, results) or (None if results[-1] == b":0\r\n" else results[-1])


def number_alone(original: Any, self: Commit, *given: Any) -> None:
    original(self, *given)
    number = wire.encode_bulk(b"0")
    self._head = wire.encode_command(b"HSET", MARKER, b"s", 0).removesuffix(number)


def blamed(**codes: errors.Blame) -> Callable[[Patch], None]:
    """Patch whose fault an error is, by the first word of its text."""

    def around(original: Any, text: str) -> errors.Blame:
        return next((wrong for code, wrong in codes.items() if code in text), original(text))

    return wrap(sequencer, "blame", around)


def everybody_is_blamed(original: Any, self: Group, index: int, error: str) -> None:
    original(self, index, error)
    self.refusals = [CommandRefusal(entry, 0, error) for entry in self.entries]


def own_refusal_is_overlooked(original: Any, self: Group, index: int, error: str) -> None:
    original(self, index, error)
    self.refusals = [each for each in self.refusals if each.entry is not None]


def own_refusal_is_the_first_clients(original: Any, self: Group, index: int, error: str) -> None:
    original(self, index, error)
    self.refusals = [replace(each, entry=each.entry or self.entries[0]) for each in self.refusals]


def memory_is_like_any_error(original: Any, self: Group, index: int, error: str) -> None:
    original(self, index, error.replace("OOM ", "NOPERM "))


def nobody_was_told(original: Any, self: Sequencer, group: Group, text: str, now: float) -> Any:
    for entry in group.entries:
        entry.acknowledged = False
    return original(self, group, text, now)


def void_in_memory_only(original: Any, self: Sequencer, *given: Any) -> None:
    log, self._log = self._log, sequencer.NullLog()
    original(self, *given)
    self._log = log


def tells_what_was_sent(self: Sequencer, _: Ready) -> None:
    for entry in self.journal.range(self._next_seq, self.journal.last_seq):
        if not entry.acknowledged:
            entry.deliver_lost()


def applies_at_the_end(monkeypatch: Patch) -> None:
    """Deliver replies only once the marker was verified."""
    applied, verified = Sequencer._applied_group, Sequencer._verified
    waiting: list[Any] = []
    monkeypatch.setattr(Sequencer, "_applied_group", lambda self, *given: waiting.append(given))

    def then(self: Sequencer, group: Group, reply: bytes) -> Any:
        group.executed = False
        self._applied = group.last
        decision = verified(self, group, reply)
        while waiting:
            given = waiting.pop()
            if decision is None:
                applied(self, *given)
        return decision

    monkeypatch.setattr(Sequencer, "_verified", then)


def two_in_flight(original: Any, self: Sequencer, now: float) -> bytes:
    if self._group is not None:
        self._next_seq, self._group = self._group.last + 1, None
    data: bytes = original(self, now)
    return data


def tells_when_it_sends(original: Any, self: Sequencer, now: float) -> bytes:
    data: bytes = original(self, now)
    for entry in self._group.entries if self._group is not None else []:
        if not entry.acknowledged and not entry.void:
            entry.deliver([wire.encode_integer(0)] * entry.commands)
    return data


def transaction_of_the_departed(original: Any, self: Session) -> None:
    if self._transaction:
        self._exec()
    original(self)


def forgets_the_departed(original: Any, self: Session) -> None:
    self._backlog.clear()
    original(self)


def fooled_by_the_tail(original: Any, self: ReplyFramer, before: bytes, after: bytes, count: int) -> Any:
    """Take the answer as whole because it ends like one."""
    buffer = bytes(self._buffer[self._start :])
    if not buffer.startswith(before) or not buffer.endswith(after):
        return None
    self._buffer.clear()
    self._start = self._scan = 0
    return [buffer[len(before) : -len(after)].removesuffix(wire.CRLF)]


def chunk_is_a_reply(original: Any, self: ReplyFramer) -> bytes | None:
    """Take what came together as one reply."""
    reply = bytes(self._buffer[self._start :])
    self._buffer.clear()
    self._start = self._scan = 0
    return reply or None


def select_nothing(original: Any, *given: Any) -> Any:
    group, data = original(*given)
    return group, data.replace(wire.encode_command(b"SELECT", 3), b"")


def marker_anywhere(original: Any, *given: Any) -> Any:
    group, data = original(*given)
    return group, data.replace(wire.encode_command(b"SELECT", 0), b"")


def all_writes_are_plain(original: Any, given: list[list[bytes]], *allowance: Any) -> Any:
    if all(command[0].upper() in commands.WRITES for command in given):
        return Kind.WRITE
    return original(given, *allowance)


def trims_without(what: str) -> Callable[..., int]:
    def around(original: Any, self: Sequencer, held_everywhere: int, accepted_before: float) -> int:
        if what == "nodes":
            held_everywhere = self._applied
        else:
            accepted_before = float("inf")
        trimmed: int = original(self, held_everywhere, accepted_before)
        return trimmed

    return around


def seen_last(original: Any, self: ReplicaMarkers, node: Any, age: float) -> int:
    return self.seen[node]


def seen_first(original: Any, self: ReplicaMarkers, node: Any, age: float) -> int:
    return next((seq for _, seq in self._history.get(node, ())), 0)


def seen_by(condition: Callable[[ReplicaMarkers, Any], bool]) -> Callable[..., int]:
    def around(original: Any, self: ReplicaMarkers, age: float) -> int:
        return min((self._held(node, age) for node in self.seen if condition(self, node)), default=0)

    return around


def names_nobody(original: Any, self: ReplicaMarkers, *given: Any) -> None:
    original(self, *given)
    self._journal_id = "other"


def drop_pin(name: str) -> Callable[[Patch], None]:
    def patch(monkeypatch: Patch) -> None:
        monkeypatch.delitem(PINS, name.encode())

    return patch


def chance_is_journalled(original: Any, *given: Any) -> Any:
    verdict = original(*given)
    return replace(verdict, kind=Kind.WRITE) if verdict.kind is Kind.RANDOM_POP else verdict


def goes_on_after(cause: str, outcome: TakeOver) -> Callable[[Patch], None]:
    """Patch ``decide``: go on where it refuses for a cause."""

    def around(original: Any, *given: Any) -> Any:
        decided = original(*given)
        return outcome if isinstance(decided, Refusal) and decided.cause.value == cause else decided

    return wrap(sequencer, "decide", around)


def as_if_own(found: Marker, now: Situation, mine: LinkState, kept: Journal) -> tuple[Any, ...]:
    owner = f"{mine.journal_id}:1:1" if found.seq is not None else found.owner
    return replace(found, owner=owner), now, mine, kept


def as_newest_run(found: Marker, now: Situation, mine: LinkState, kept: Journal) -> tuple[Any, ...]:
    return found, now, replace(mine, incarnation=1 << 30), kept


def sent_is_done(self: Sequencer, _: Ready) -> None:
    if self.counters.handshakes > 2:
        self._next_seq = max(self._next_seq, self._highest_sent + 1)


def skip_one(self: Sequencer, ready: Ready) -> None:
    self._next_seq += ready.replay > 0


def acknowledged_is_done(self: Sequencer, _: Ready) -> None:
    self._next_seq = max(self._next_seq, self._highest_acknowledged + 1)


def one_too_many(self: Sequencer, ready: Ready) -> None:
    self._next_seq = max(ready.marker, self.journal.first_seq)


def as_if_empty(found: Marker, now: Situation, mine: LinkState, kept: Journal) -> tuple[Any, ...]:
    return found, replace(now, last_history=None, keys=0), mine, kept


def as_if_here(found: Marker, now: Situation, mine: LinkState, kept: Journal) -> tuple[Any, ...]:
    return found, replace(now, last_history=now.history), mine, kept
