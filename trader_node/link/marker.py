"""The marker: the hash that says which prefix of the sequence a data set holds, and what to do about it.

The marker is written in the same transaction as the entries, so on any master, however old its data, field ``s`` is the
number of the last entry applied and field ``o`` names the connection that may write next.
"""

from __future__ import annotations

from dataclasses import dataclass

from .decisions import Cause
from .journal import Journal
from .state import LinkState
from .wire import OK, encode_bulk, encode_command, encode_integer, join_array


@dataclass(frozen=True, slots=True)
class Marker:
    """The marker as read from a data set; ``owner`` empty and ``seq`` None where it is missing."""

    owner: str
    seq: int | None


@dataclass(frozen=True, slots=True)
class History:
    """One process of one master and its line of history: the same pair means that nothing was rolled back."""

    run_id: str
    replid: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Own the data set; entries behind ``seq`` are to be applied. ``write_seq``: the marker must be set to it first."""

    seq: int
    write_seq: bool = False
    #: What an operator should know, or empty.
    warning: str = ""
    #: The data set is ahead of a journal that lost its tail: number new entries from here.
    skip: bool = False
    #: Entries that the data set will never hold, and entries that it may lack or hold twice: only if the user's policy
    #: is to go on all the same.
    lost: int = 0
    unsure: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """The data set cannot be brought to exactly the sequence's state; ``reason`` says what an operator can do."""

    reason: str
    cause: Cause
    #: If forked: the last entry that means the same there.
    shared: int = 0


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Look at the marker once more in ``delay`` seconds before anything is decided."""

    reason: str
    delay: float


@dataclass(frozen=True, slots=True)
class Look:
    """An earlier look at the marker of another journal, and what has happened to it since."""

    marker: Marker
    #: How long ago it was, in seconds.
    age: float
    #: For how many whole seconds nobody has read or written the marker, or None where the server does not tell.
    idle: int | None


@dataclass(frozen=True, slots=True)
class Situation:
    """What the link knows besides the marker it has read."""

    history: History
    #: Keys in all databases.
    keys: int
    #: Where the link's own last verified transaction happened, if any in this run.
    last_history: History | None
    #: The last entry known to be applied.
    last_applied: int
    #: A transaction was sent whose outcome is unknown.
    unknown_outcome: bool
    #: Of this process; see ``owner_name``.
    nonce: str = ""
    #: The earlier look at this marker of another journal, if there was one.
    look: Look | None = None
    #: The user says that no other link of this id runs.
    adopt: bool = False


#: Seconds between two looks. A link reads the marker on all nodes every second, also when it has nothing to write.
_LOOK_SECONDS = 4.0
#: The clock of OBJECT IDLETIME ticks in seconds, and Redis reads it ten times a second: a marker that nobody has used
#: for 4 s may be told to be idle for 3.
_IDLE_SLACK = 1.5


def owner_name(state: LinkState, connection: int, nonce: str = "") -> str:
    """Return the value that fences: unique to one connection of one run of the link.

    ``nonce`` tells processes apart that were started from copies of one journal, which count alike.
    """
    return f"{state.journal_id}:{state.incarnation}:{connection}" + (f":{nonce}" if nonce else "")


def parse_marker(owner: object, seq: object) -> Marker:
    """Build a marker from the decoded reply of HMGET."""
    name = owner.decode(errors="replace") if isinstance(owner, bytes) else ""
    number = int(seq) if isinstance(seq, bytes) and seq.isdigit() else None
    return Marker(name, number)


def decide(marker: Marker, situation: Situation, state: LinkState, journal: Journal) -> TakeOver | LookAgain | Refusal:
    """Decide what a data set with this marker is to the link.

    The data set is always S_k, the result of entries 1 to k, unless somebody else wrote or the marker was removed.
    """
    if marker.seq is None:
        return _without_marker(situation, state, journal)
    journal_id, _, rest = marker.owner.partition(":")
    if journal_id != state.journal_id:
        if not state.contacted:
            return _begin_on(marker, situation)
        return _foreign(marker, marker.seq, state, journal)
    incarnation, _, rest = rest.partition(":")
    nonce = rest.partition(":")[2]
    run = int(incarnation) if incarnation.isdigit() else state.incarnation
    if run > state.incarnation or (run == state.incarnation and nonce != situation.nonce):
        return Refusal(
            f"a newer run of this link (owner {marker.owner}) has taken the data set: two links use one journal; "
            "stop one of them",
            Cause.NEWER_RUN,
        )
    shared = state.shared_with(run)
    if shared is not None and marker.seq > shared:
        return Refusal(
            f"the data set holds entries up to {marker.seq} of an earlier run, but a later one has numbered its own "
            f"from {shared + 1}: the journal had lost its tail in a crash, and this node has that tail; compare the "
            "data, then go on with LINK_ON_GAP=continue",
            Cause.FORKED,
            shared,
        )
    return _own(marker.seq, situation, journal)


def _own(seq: int, situation: Situation, journal: Journal) -> TakeOver | Refusal:
    if seq > journal.last_seq:
        if situation.last_history is None:
            lost = seq - journal.last_seq
            return TakeOver(
                seq,
                skip=True,
                warning=f"the data set is {lost} entries ahead of the journal, which lost its tail in a crash; "
                "they are in Redis but cannot be replayed if it loses them",
            )
        return Refusal(
            f"the marker says entry {seq}, but only {journal.last_seq} were ever accepted: another writer uses this "
            "trader id; stop it, then restart the link",
            Cause.AHEAD,
        )
    if seq < journal.first_seq - 1:
        return Refusal(
            f"the data set ends at entry {seq}, but the journal begins at {journal.first_seq}: "
            f"{journal.first_seq - 1 - seq} entries are lost; bring a newer copy of the data back, or restart the link "
            "with LINK_ON_GAP=continue to go on without them",
            Cause.GAP,
        )
    return TakeOver(seq)


def _begin_on(marker: Marker, situation: Situation) -> TakeOver | LookAgain | Refusal:
    """Decide whether a new journal may begin on what another one has written: only if that one's link is gone."""
    found = f"the data set was written by another journal (owner {marker.owner}, entry {marker.seq})"
    begin = TakeOver(0, write_seq=True, warning=f"{found}: this journal begins on it as it is")
    look = situation.look
    if situation.adopt:
        return begin
    if look is None:
        return LookAgain(f"{found}: watching for {_LOOK_SECONDS:g} s whether its link still runs", _LOOK_SECONDS)
    touched = look.idle is not None and look.idle < look.age - _IDLE_SLACK
    if marker != look.marker or touched:
        return Refusal(
            f"{found}, and its link runs: one link per trader id; stop that one, or give this one another id "
            "(LINK_ID, TRADER_ID); LINK_ADOPT=true takes the data set over all the same",
            Cause.FOREIGN,
        )
    if look.age < _LOOK_SECONDS:
        return LookAgain(f"{found}: watching whether its link still runs", _LOOK_SECONDS)
    return begin


def _foreign(marker: Marker, seq: int, state: LinkState, journal: Journal) -> TakeOver | Refusal:
    if (marker.owner, seq) == (state.adopted_owner, state.adopted_seq) and journal.first_seq == 1:
        return TakeOver(0, write_seq=True, warning="the data set is the one this journal began on: replaying all")
    return Refusal(
        f"the data set belongs to another link (owner {marker.owner}, entry {seq}): one link per trader id; stop the "
        "other one; to take the data set over as it is, and to give up what this journal still holds, move the journal "
        "folder away and restart this one",
        Cause.FOREIGN,
    )


def _without_marker(situation: Situation, state: LinkState, journal: Journal) -> TakeOver | Refusal:
    if situation.last_history == situation.history:
        # Same process, same history: the data is still there and only the marker was deleted or evicted. Replaying
        # would double every entry kept.
        if situation.unknown_outcome:
            return Refusal(
                "the marker was removed while a transaction was on its way: whether it was applied cannot be told; "
                "compare the data, then restart the link with LINK_ON_GAP=continue to go on",
                Cause.OUTCOME_UNKNOWN,
            )
        return TakeOver(
            situation.last_applied,
            write_seq=True,
            warning="the marker was removed by somebody else (FLUSHALL, DEL or eviction): written again",
        )
    if journal.first_seq == 1:
        if not state.contacted:
            return TakeOver(0, write_seq=True)
        if situation.keys == 0 and not state.adopted_owner:
            return TakeOver(0, write_seq=True, warning="the data set is empty: replaying all")
    return Refusal(
        f"the marker is missing on a data set with {situation.keys} keys: somebody removed it, or this is not the "
        "trader's data; bring the data back, or restart the link with LINK_ON_GAP=continue to take it as it is",
        Cause.MARKER_LOST,
    )


class MarkerCommands:
    """The link's own commands on the marker, encoded once."""

    __slots__ = ("key", "read", "watch")

    def __init__(self, key: str) -> None:
        self.key = key.encode()
        self.read = encode_command(b"HMGET", self.key, b"o", b"s")
        self.watch = encode_command(b"WATCH", self.key)

    def set(self, owner: str, seq: int | None) -> bytes:
        """Return the command that names the owner and, unless None, the last entry."""
        if seq is None:
            return encode_command(b"HSET", self.key, b"o", owner)
        return encode_command(b"HSET", self.key, b"o", owner, b"s", seq)


class Commit:
    """What ends every transaction of one connection, and the answer to it; only the number changes."""

    __slots__ = ("_answer", "_head", "_tail")

    def __init__(self, marker: MarkerCommands, owner: str) -> None:
        number = encode_bulk(b"0")
        self._head = marker.set(owner, 0).removesuffix(number)
        self._tail = encode_command(b"EXEC") + marker.watch + marker.read
        #: HSET where the fields exist; WATCH; HMGET.
        self._answer = encode_integer(0) + OK + join_array([encode_bulk(owner.encode()), number]).removesuffix(number)

    def encode(self, seq: int) -> tuple[bytes, bytes]:
        """Return the commands from HSET on, and the replies of the same, EXEC's header left out, if all is well."""
        number = encode_bulk(b"%d" % seq)
        return self._head + number + self._tail, self._answer + number
