"""The heart of the link: one sequence of entries, one transaction in flight, fenced, replayed from the marker.

Theory of operation
-------------------
Every accepted entry has a number. Entries go to the master in order, several to a transaction::

    MULTI, <entries>, HSET marker o <owner> s <last>, EXEC, WATCH marker, HMGET marker o s

and the next transaction is sent only after HMGET has shown the link as the owner. The marker is in the transaction, so
any data set, on whatever master, tells exactly which entries it holds. On each new connection the handshake is::

    MULTI, ROLE, INFO x 3, HMGET marker, EXEC, WATCH, HMGET    (IDENTIFY: who is it, what does it hold)
    MULTI, HSET marker o <owner>, HMGET, EXEC, WATCH, HMGET    (TAKEOVER: kills the WATCH of every older connection)

after which the entries behind the marker are sent, whether or not their clients were already answered: that is replay.
A transaction of an older connection that is executed late (bytes that waited at a frozen master) finds its WATCH broken
and applies nothing.

Nothing here does I/O: bytes and clock readings go in; bytes to send and decisions come out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from . import wire
from .decisions import Cause, Decision, Halt, Ready, Reconnect
from .entries import Entry, Form, Write
from .errors import Blame, blame, without_payload
from .group import EXEC, MULTI, CommandRefusal, Group, build_group
from .identity import IDENTITY_REPLIES, ROLE, RefusedError, decode_marker, parse_identity, question, says_master
from .journal import Journal
from .latency import Latency
from .marker import Commit, History, Look, LookAgain, Marker, MarkerCommands, Refusal, Situation, decide, owner_name
from .policy import OnGap, OnOom, go_on
from .server_bounds import DEFAULT_SERVER_BOUNDS
from .state import LinkState

#: Replies to MULTI, HSET, HMGET, EXEC, WATCH, HMGET.
_TAKEOVER_REPLIES = 6
#: Redis says so of what it cannot read, and closes the connection.
_UNREADABLE = b"-ERR Protocol error"


class Phase(enum.Enum):
    """Where the connection to the master stands."""

    #: No connection.
    OFFLINE = "offline"
    #: Asked who the server is and what it holds.
    IDENTIFY = "identify"
    #: Asked to become the owner of the data set.
    TAKEOVER = "takeover"
    #: Owner: transactions are sent.
    READY = "ready"
    #: Stopped for good: going on could lose or double a write. Clients wait.
    HALTED = "halted"


class JournalLog(Protocol):
    """Where entries are written before they are sent."""

    def append(self, entry: Entry) -> None:
        """Remember to write an entry."""

    def append_void(self, seq: int) -> None:
        """Remember to write that an entry was refused for good."""

    def append_replaced(self, entry: Entry) -> None:
        """Remember to write what is left of a batch of which commands were refused for good."""

    def append_skip(self, seq: int) -> None:
        """Remember to write that the entries up to ``seq`` are in the data set and lost from the journal."""

    def append_applied(self, seq: int) -> None:
        """Remember to write that clients may know of the entries up to ``seq``."""


class NullLog:
    """For a link without a journal on disk."""

    def append(self, entry: Entry) -> None:
        """Write nothing."""

    def append_void(self, seq: int) -> None:
        """Write nothing."""

    def append_replaced(self, entry: Entry) -> None:
        """Write nothing."""

    def append_skip(self, seq: int) -> None:
        """Write nothing."""

    def append_applied(self, seq: int) -> None:
        """Write nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one transaction, and the pause before one is tried again."""

    group_entries: int = 512
    group_bytes: int = 1 << 20
    #: Seconds between attempts while the master refuses writes for now (NOREPLICAS, LOADING, ...).
    retry_delay: float = 0.05
    #: Seconds between attempts after an error that only an operator can mend (NOAUTH, NOPERM).
    operator_delay: float = 1.0


@dataclass(slots=True)
class Counters:
    """Totals since the start of the link."""

    accepted: int = 0
    acknowledged: int = 0
    replayed: int = 0
    fenced: int = 0
    lost_replies: int = 0
    refused: int = 0
    handshakes: int = 0
    #: The marker was gone from under the link on the same master, and written again.
    markers_restored: int = 0
    #: Answered from the journal, before they were applied.
    told_early: int = 0
    #: Answered from the journal and then applied with an error, such as WRONGTYPE.
    late_errors: int = 0
    #: Entries that are lost, and that may be missing or doubled, because the policy was to go on after a gap.
    gap_lost: int = 0
    gap_unsure: int = 0


class Sequencer:
    """State of the one write connection. See the module's description."""

    def __init__(
        self,
        journal: Journal,
        state: LinkState,
        marker_key: str,
        *,
        log: JournalLog | None = None,
        limits: Limits | None = None,
        auth: bytes = b"",
        on_gap: OnGap = OnGap.STOP,
        on_oom: OnOom = OnOom.REFUSE,
        adopt: bool = False,
        nonce: str = "",
    ) -> None:
        self.journal = journal
        self.state = state
        self.counters = Counters()
        self.latency = Latency()
        self.phase = Phase.OFFLINE
        self.halt_reason = ""
        self.halt_cause: Cause | None = None
        #: Set when ``state`` has to be saved before anything else is sent.
        self.state_changed = False
        #: No group is sent before this monotonic time.
        self.retry_at = 0.0
        #: Since when (monotonic seconds) the master has refused everything, or None.
        self.refused_since: float | None = None
        #: Number of databases that the server has, or None where it does not tell.
        self.databases: int | None = None
        #: What the server can read.
        self.bounds = DEFAULT_SERVER_BOUNDS
        self.last_refusal = ""
        self._log = log or NullLog()
        self._limits = limits or Limits()
        self._group_bytes = self._limits.group_bytes
        #: The command that logs in, or nothing; to be set anew for a connection whose password is another one.
        self.auth = auth
        self._on_gap = on_gap
        self._on_oom = on_oom
        self._adopt = adopt
        self._nonce = nonce
        #: The marker of another journal, and when it was looked at.
        self._looked: tuple[Marker, float] | None = None
        self._marker = MarkerCommands(marker_key)
        self._framer = wire.ReplyFramer()
        self._group: Group | None = None
        self._last_group_entries = 0
        #: Entries whose clients are still to be answered.
        self._deliveries: list[tuple[Entry, list[bytes] | bytes]] = []
        self._probe_at: float | None = None
        self._connection = 0
        self._owner = ""
        self._commit = Commit(self._marker, "")
        self._replies: list[bytes] = []
        self._handshake_at = 0.0
        self._takeover_seq = 0
        self._warning = ""
        #: Entries lost and unsure, counted once the data set is taken over.
        self._gap = (0, 0)
        #: The marker is to be written again on the master that lost it.
        self._restores = False
        self._history = History("", "")
        self._last_history: History | None = None
        self._applied = journal.first_seq - 1
        self._next_seq = journal.first_seq
        self._highest_acknowledged = journal.last_seq
        self._unknown_outcome = False
        #: The last entry of the transaction whose outcome is unknown.
        self._unsure_up_to = 0
        #: The last entry that bytes of an older connection may still apply to another data set than the present one.
        self._unknown_up_to = 0
        #: The highest entry that was ever sent: a read may have shown it, answered or not.
        self._highest_sent = 0
        #: Reads wait until the master holds this entry.
        self._catch_up_to = 0

    def __repr__(self) -> str:
        """Show the live state; tests assert on it."""
        flight = f" in flight ..{self._group.last}" if self._group else ""
        return (
            f"<Sequencer {self.phase.value} applied {self._applied} next {self._next_seq} of "
            f"{self.journal.first_seq}..{self.journal.last_seq}{flight}>"
        )

    @property
    def numbered(self) -> bool:
        """Whether entries may be accepted: only a first look at the marker tells where numbering goes on."""
        return self._last_history is not None

    @property
    def caught_up(self) -> bool:
        """Whether the master holds every entry that a client was told of, so that reads may go to it."""
        return self.phase is Phase.READY and self._applied >= max(self._highest_acknowledged, self._catch_up_to)

    @property
    def applied(self) -> int:
        """The last entry known to be in the current master's data set."""
        return self._applied

    @property
    def unfinished(self) -> int:
        """How many accepted entries are not known to be applied."""
        return max(self.journal.last_seq - self._applied, 0)

    @property
    def alone(self) -> bool:
        """Whether one entry at a time is sent: then none that follows at once is worth waiting for."""
        return self._group is None and self._next_seq == self.journal.last_seq and self._last_group_entries == 1

    def waiting_since(self) -> float | None:
        """Return since when (monotonic seconds) an answer of the master is awaited, or None."""
        if self._group is not None:
            return self._group.sent_at
        if self._probe_at is not None:
            return self._probe_at
        if self.phase in (Phase.IDENTIFY, Phase.TAKEOVER):
            return self._handshake_at
        return None

    def accept(self, write: Write, now: float) -> Entry:
        """Accept a write: number and journal it. From here on the guarantee covers it."""
        entry = Entry(
            self.journal.last_seq + 1,
            write.db,
            write.end_db,
            write.form,
            write.commands,
            write.payload,
            write.sink,
            False,
            write.writes_only,
            False,
            now,
        )
        self.journal.append(entry)
        self._log.append(entry)
        self.counters.accepted += 1
        return entry

    def connected(self, now: float) -> bytes:
        """Begin the handshake on a new connection; return the bytes to send."""
        self._framer = wire.ReplyFramer()
        self._replies = []
        self._connection += 1
        self._owner = owner_name(self.state, self._connection, self._nonce)
        self._commit = Commit(self._marker, self._owner)
        self._handshake_at = now
        self.retry_at = 0.0
        self.phase = Phase.IDENTIFY
        self.counters.handshakes += 1
        return self.auth + question(self._marker, idle=self._looked is not None)

    def disconnected(self) -> None:
        """Take note that the connection is gone; what was in flight has an unknown outcome."""
        if self._group is not None and not self._group.executed:
            self._unknown_outcome = True
            self._unsure_up_to = self._group.last
        self._group = None
        self._probe_at = None
        if self.phase is not Phase.HALTED:
            self.phase = Phase.OFFLINE

    def receive(self, data: bytes, now: float) -> tuple[bytes, Decision | None]:
        """Take bytes from the master; return bytes to send at once, and a decision for the shell.

        Call :meth:`deliver` afterwards.
        """
        answer, decision = self._receive(data, now)
        if isinstance(decision, Reconnect):
            # At once, so that nothing more is sent on this connection, whatever else happens before it is closed.
            self.disconnected()
        return answer, decision

    def _receive(self, data: bytes, now: float) -> tuple[bytes, Decision | None]:
        self._framer.feed(data)
        try:
            if self.phase is Phase.READY:
                return b"", self._receive_group(now)
            if self.phase in (Phase.IDENTIFY, Phase.TAKEOVER):
                return self._receive_handshake(now)
        except wire.ProtocolError as error:
            return b"", Reconnect(f"the server does not speak RESP2: {error}", rediscover=True)
        return b"", None

    def next_group(self, now: float) -> bytes:
        """Return the next transaction to send, or nothing if none is due."""
        if (
            self.phase is not Phase.READY
            or self._group is not None
            or self._probe_at is not None
            or self._next_seq > self.journal.last_seq
            or now < self.retry_at
        ):
            return b""
        waiting = self.journal.range(self._next_seq, self._next_seq + self._limits.group_entries - 1)
        self._group, data = build_group(waiting, self._group_bytes, self._commit, now)
        self._last_group_entries = len(self._group.entries)
        self._highest_sent = max(self._highest_sent, self._group.last)
        return data

    def acknowledge_held(self, accepted_before: float) -> int:
        """Answer clients whose writes have waited since ``accepted_before`` (monotonic seconds); return how many.

        For clients that make no use of replies, such as NautilusTrader, which hands over nothing more until the last
        batch is answered: what it keeps to itself dies with it. Only for entries that are in the journal on disk.
        """
        if self.phase is Phase.HALTED:
            return 0
        # A list, because a client that gets its answer may have its next write accepted right away.
        first = max(self._applied, self._highest_acknowledged) + 1
        waiting = [
            entry
            for entry in self.journal.range(first, self.journal.last_seq)
            if not entry.acknowledged and entry.writes_only and entry.accepted_at <= accepted_before
        ]
        for entry in waiting:
            self.counters.told_early += 1
            self._note_acknowledged(entry)
            entry.deliver_journalled()
        return len(waiting)

    def probe(self, now: float) -> bytes:
        """Return a question that shows whether an idle master still answers and still is one, or nothing if busy."""
        if self.phase is not Phase.READY or self.waiting_since() is not None:
            return b""
        self._probe_at = now
        return ROLE

    def trim(self, held_everywhere: int, accepted_before: float) -> int:
        """Forget entries that every known node holds and that are old enough; return how many.

        ``held_everywhere`` is the lowest marker of all known nodes, those that are down included;
        ``accepted_before`` (monotonic seconds) keeps what a node may hold in memory but not on disk yet.
        """
        up_to = min(held_everywhere, self._applied, self.journal.last_seq)
        keep = self.journal.first_seq
        while keep <= up_to and not self._kept(self.journal.entry(keep), accepted_before):
            keep += 1
        return self.journal.trim(keep - 1)

    @staticmethod
    def _kept(entry: Entry, accepted_before: float) -> bool:
        return not entry.acknowledged or entry.accepted_at > accepted_before

    # --- handshake -----------------------------------------------------------------------------------------------

    def _receive_handshake(self, now: float) -> tuple[bytes, Decision | None]:
        while (reply := self._framer.next()) is not None:
            self._replies.append(reply)
            expected = IDENTITY_REPLIES + bool(self.auth) + (self._looked is not None)
            if self.phase is Phase.IDENTIFY and len(self._replies) == expected:
                replies, self._replies = self._replies, []
                return self._identified(replies, now)
            if self.phase is Phase.TAKEOVER and len(self._replies) == _TAKEOVER_REPLIES:
                replies, self._replies = self._replies, []
                return b"", self._taken_over(replies, now)
        return b"", None

    def _identified(self, replies: list[bytes], now: float) -> tuple[bytes, Decision | None]:
        looked = self._looked
        try:
            identity = parse_identity(replies, idle=looked is not None)
        except RefusedError as error:
            return b"", self._refused_handshake(str(error))
        self.databases, self.bounds = identity.databases, identity.bounds
        self._group_bytes = min(self._limits.group_bytes, self.bounds.transaction)
        if not identity.master:
            return b"", Reconnect("the node is not a master", rediscover=True, delay=self._limits.retry_delay)
        if identity.marker is None:
            return b"", Reconnect("the marker changed during the handshake")
        self._history, marker = identity.history, identity.marker
        situation = Situation(
            history=self._history,
            keys=identity.keys,
            last_history=self._last_history,
            last_applied=self._applied,
            unknown_outcome=self._unknown_outcome,
            nonce=self._nonce,
            look=Look(looked[0], now - looked[1], identity.idle) if looked is not None else None,
            adopt=self._adopt,
        )
        outcome = decide(marker, situation, self.state, self.journal)
        if isinstance(outcome, LookAgain):
            self._looked = marker, now
            return b"", Reconnect(outcome.reason, delay=outcome.delay)
        if isinstance(outcome, Refusal):
            outcome = go_on(outcome, marker, situation, self.journal, self._on_gap)
        if isinstance(outcome, Refusal):
            return b"", self._halt(outcome.reason, outcome.cause)
        self._gap = outcome.lost, outcome.unsure
        self._restores = marker.seq is None and self._last_history == self._history
        if outcome.skip:
            self.journal.skip_to(outcome.seq)
            # At once: the next start must know that there was something, too.
            self._log.append_skip(outcome.seq)
        if outcome.write_seq and not self.state.contacted and marker.seq is not None:
            self.state.adopted_owner, self.state.adopted_seq = marker.owner, marker.seq
            self.state_changed = True
        self._takeover_seq = outcome.seq
        self._warning = outcome.warning
        self.phase = Phase.TAKEOVER
        own = self._marker.set(self._owner, outcome.seq if outcome.write_seq else None)
        return MULTI + own + self._marker.read + EXEC + self._marker.watch + self._marker.read, None

    def _taken_over(self, replies: list[bytes], now: float) -> Decision:
        for reply in replies:
            if wire.is_error(reply):
                return self._refused_handshake(wire.error_text(reply))
        if replies[3] == wire.NIL_ARRAY or decode_marker(replies[5]) != Marker(self._owner, self._takeover_seq):
            return Reconnect("the marker changed during the handshake")
        self.phase = Phase.READY
        self._looked = None
        lost, unsure = self._gap
        self.counters.gap_lost += lost
        self.counters.gap_unsure += unsure
        if self._last_history is None:
            # Saved before the first entry of this run is sent.
            self.state.note_run(self.journal.last_seq)
            self.state.contacted = True
            self.state_changed = True
        if self._history != self._last_history:
            # Taking over fences the old bytes on this node, and on this one alone.
            self._unknown_up_to = max(self._unknown_up_to, self._unsure_up_to)
        self._unsure_up_to = 0
        self._last_history = self._history
        self.counters.markers_restored += self._restores
        marker = self._takeover_seq
        self._catch_up_to = max(self._highest_acknowledged, self._highest_sent)
        replay = max(self._highest_acknowledged - marker, 0)
        self._unknown_outcome = False
        self.refused_since = None
        self._applied = marker
        self._next_seq = marker + 1
        if marker:
            self._log.append_applied(marker)
        # A list, because a client that gets its answer may have its next write accepted right away.
        for entry in self.journal.range(self.journal.first_seq, marker):
            if not entry.acknowledged:
                # Sent on an earlier connection, and applied there: only its answer was lost.
                if entry.sink is not None:
                    self.counters.lost_replies += 1
                self._note_acknowledged(entry)
                entry.deliver_lost()
        return Ready(marker, replay, self._warning)

    def _refused_handshake(self, text: str) -> Decision:
        self.last_refusal = text
        if text.startswith("WRONGTYPE"):
            return self._halt(
                f"the marker's key holds something else ({text}): somebody wrote to it; compare the data, delete it, "
                "and restart the link with LINK_ON_GAP=continue to take the data set as it is",
                Cause.MARKER_LOST,
            )
        match blame(text):
            case Blame.ROLE:
                return Reconnect(text, rediscover=True, delay=self._limits.retry_delay)
            case Blame.MOMENT:
                return Reconnect(text, delay=self._limits.retry_delay)
            case Blame.COMMAND:
                remedy = "raise its maxmemory" if text.startswith("OOM") else "check user, password and rights"
                return Reconnect(
                    f"Redis refuses the link: {text.rstrip('.')}: {remedy}",
                    delay=self._limits.operator_delay,
                    operator=True,
                )

    # --- transactions --------------------------------------------------------------------------------------------

    def _receive_group(self, now: float) -> Decision | None:
        group = self._group
        if group is None:
            return self._probed()
        queued = group.queued
        if group.received == 0:
            if group.plain:
                before = group.prefix + b"*%d\r\n" % queued
                lines = self._framer.take_lines(before, group.verified, queued - 1)
                if lines is not None:
                    # All of the answer is here, and the marker is as it should be.
                    self._group = None
                    self._applied_group(group, [line + wire.CRLF for line in lines], now)
                    return None
            if self._framer.skip(group.prefix):
                group.received = queued + 1
        while (reply := self._framer.next()) is not None:
            index, group.received = group.received, group.received + 1
            if index <= queued:
                if wire.is_error(reply):
                    group.note_refusal(index, wire.error_text(reply))
                    if reply.startswith(_UNREADABLE):
                        return self._unreadable(group)
                elif index and reply != wire.QUEUED:
                    # MULTI itself was refused, so this ran at once: without the fence, and perhaps without the marker.
                    return self._halt(
                        f"Redis carried out commands outside of a transaction ({self._why(group)}): entries up to "
                        f"{group.last} may be applied or not; compare the data, then move the journal folder away",
                        Cause.PARTIAL,
                    )
            elif index == queued + 1:
                decision = self._executed(group, reply, now)
                if decision is not None:
                    return decision
            elif index == queued + 2 and reply != wire.OK:
                # Without the WATCH nothing fences the next transaction.
                return self._refused_handshake(wire.error_text(reply))
            elif index == queued + 3:
                return self._verified(group, reply)
        return None

    @staticmethod
    def _why(group: Group) -> str:
        return group.refusals[0].error if group.refusals else "it did not queue them"

    def _executed(self, group: Group, reply: bytes, now: float) -> Decision | None:
        if wire.is_error(reply):
            return self._aborted(group, wire.error_text(reply), now)
        results = wire.split_array(reply)
        if results is None:
            self.counters.fenced += 1
            return self._not_applied(Reconnect("fenced: the marker was touched by another connection"))
        own_error = group.own_error(results)
        if own_error is not None:
            # A SELECT or the marker failed while the rest was applied: the data set is not S_k any more.
            return self._halt(
                f"Redis carried out a transaction in part ({wire.error_text(own_error)}): entries up to "
                f"{group.last} are applied, in another database or without the marker; compare the data, then move the "
                "journal folder away",
                Cause.PARTIAL,
            )
        self._applied_group(group, results, now)
        return None

    def _applied_group(self, group: Group, results: list[bytes], now: float) -> None:
        group.executed = True
        self.refused_since = None
        self._applied = group.last
        self._next_seq = group.last + 1
        self._log.append_applied(group.last)
        oldest = group.entries[0]
        if not oldest.acknowledged:
            self.latency.observe(now - oldest.accepted_at, len(group.entries))
        self._highest_acknowledged = max(self._highest_acknowledged, group.last)
        for entry, replies in group.replies(results):
            if entry.acknowledged:
                self._applied_again(entry, replies)
            else:
                self.counters.acknowledged += 1
                entry.acknowledged = True
                self._deliveries.append((entry, replies))

    def deliver(self) -> None:
        """Give clients the replies that :meth:`receive` has found.

        By itself, so that the shell can write the journal and send the next transaction first.
        """
        deliveries, self._deliveries = self._deliveries, []
        for entry, replies in deliveries:
            if isinstance(replies, bytes):
                entry.refuse(replies)
            else:
                entry.deliver(replies)

    def _applied_again(self, entry: Entry, replies: list[bytes]) -> None:
        if not entry.told_early:
            self.counters.replayed += 1
            return
        entry.told_early = False
        for reply in replies:
            if wire.is_error(reply):
                self.counters.late_errors += 1
                self.last_refusal = without_payload(wire.error_text(reply))

    def _note_acknowledged(self, entry: Entry) -> None:
        self._highest_acknowledged = max(self._highest_acknowledged, entry.seq)
        self.counters.acknowledged += 1
        entry.acknowledged = True

    def _verified(self, group: Group, reply: bytes) -> Decision | None:
        self._group = None
        if wire.is_error(reply):
            return self._refused_handshake(wire.error_text(reply))
        # Also after a transaction that was refused for now: the WATCH that fences the next attempt is only as good as
        # the marker it was set on.
        if decode_marker(reply) != Marker(self._owner, self._applied):
            return Reconnect("the marker was changed by another connection")
        return None

    def _probed(self) -> Decision | None:
        reply = self._framer.next()
        if reply is None:
            return None
        self._probe_at = None
        if wire.is_error(reply):
            return self._refused_handshake(wire.error_text(reply))
        if not says_master(reply):
            return Reconnect("the node is not a master any more", rediscover=True)
        return None

    def _aborted(self, group: Group, text: str, now: float) -> Decision | None:
        if self.refused_since is None:
            self.refused_since = now
        refusals = group.refusals or [CommandRefusal(None, None, text)]
        self.last_refusal = without_payload(refusals[0].error)
        blames = {blame(refusal.error) for refusal in refusals}
        if Blame.ROLE in blames:
            return self._not_applied(Reconnect(self.last_refusal, rediscover=True, delay=self._limits.retry_delay))
        if Blame.MOMENT in blames:
            self.retry_at = now + self._limits.retry_delay
            return None
        for refusal in refusals:
            entry, error = refusal.entry, refusal.error
            told = entry is not None and self._may_have_been_told(entry)
            no_memory = error.startswith("OOM")
            if entry is None or (no_memory and (told or self._on_oom is OnOom.HOLD)):
                # The link's own command is refused (memory, rights), or for want of memory what must not be: wait.
                self.retry_at = now + self._limits.operator_delay
                return None
            # Redis has not answered it, and it is not a command at all: it was never applied, nor will it be.
            hopeless = (entry.told_early or not entry.acknowledged) and error.startswith("ERR ")
            if told and not hopeless:
                return self._halt(
                    f"Redis refuses to replay entry {entry.seq}, which a client was told is done: "
                    f"{without_payload(error)}: undo the "
                    "change on the server that forbids it, then restart the link",
                    Cause.REPLAY_REFUSED,
                )
        # Of a batch only those commands are left out; from the back, because what is left out moves what follows.
        singly = [refusal for refusal in refusals if _concerns_a_command_of_a_batch(refusal)]
        for refusal in [*(other for other in refusals if other not in singly), *reversed(singly)]:
            if refusal.entry is not None and not refusal.entry.void:
                self._refuse(refusal.entry, refusal)
        # The master takes writes; only these it never will.
        self.refused_since = None
        return None

    def _may_have_been_told(self, entry: Entry) -> bool:
        """Tell whether a refusal might contradict what a client knows, or what is applied somewhere.

        A client of an earlier run may have been told as well: nobody knows any more. And what old bytes may apply
        elsewhere must not be told as refused.
        """
        return entry.acknowledged or entry.told_early or entry.from_disk or entry.seq <= self._unknown_up_to

    def _unreadable(self, group: Group) -> Decision:
        """Refuse the entry that made Redis close the connection, or it does so every time: EXEC was never read."""
        refusal = group.refusals[-1]
        entry, self.last_refusal = refusal.entry, refusal.error
        self._group = None
        self.disconnected()
        if entry is None:
            return Reconnect(refusal.error)
        if self._may_have_been_told(entry):
            return self._halt(
                f"Redis cannot read entry {entry.seq}, which a client may have been told is done: {refusal.error}: it "
                "is longer than the server's proto-max-bulk-len: raise that, then restart the link",
                Cause.REPLAY_REFUSED,
            )
        self._refuse(entry, refusal)
        return Reconnect(f"entry {entry.seq} is refused: {refusal.error}")

    def _refuse(self, entry: Entry, refusal: CommandRefusal) -> None:
        self.counters.refused += 1
        if entry.told_early or entry.from_disk:
            self.counters.late_errors += 1
        error = wire.encode_error(refusal.error)
        if _concerns_a_command_of_a_batch(refusal) and refusal.position is not None:
            self.journal.refuse_command(entry, refusal.position, error)
            if not entry.void:
                self._log.append_replaced(entry)
                return
        commands = entry.commands
        self.journal.make_void(entry)
        self._log.append_void(entry.seq)
        self._highest_acknowledged = max(self._highest_acknowledged, entry.seq)
        if entry.form is Form.TRANSACTION:
            error = wire.encode_error(f"EXECABORT Transaction discarded because of previous errors: {refusal.error}")
        # Told when the record is on disk: a client that knows of the refusal must not find the write done after all.
        entry.acknowledged = True
        self._deliveries.append((entry, error if entry.form is Form.TRANSACTION else [error] * commands))

    def _not_applied(self, decision: Decision) -> Decision:
        # The answer says that nothing was applied: the outcome is known.
        self._group = None
        return decision

    def _halt(self, reason: str, cause: Cause) -> Halt:
        self.phase = Phase.HALTED
        self.halt_reason = reason
        self.halt_cause = cause
        self._group = None
        return Halt(reason, cause)


def _concerns_a_command_of_a_batch(refusal: CommandRefusal) -> bool:
    """Tell whether the rest of the entry has nothing to do with the command that is refused."""
    return refusal.entry is not None and refusal.entry.form is Form.BATCH and refusal.position is not None
