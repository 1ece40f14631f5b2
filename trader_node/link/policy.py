"""What the user decides where the link must not: a data set that cannot be made exact, a server without memory.

A data set that cannot be brought to exactly the sequence's state: stop, or go on as the user asked. Stopping is the
default. Going on takes the data set as it is, sends what is certainly missing and can be sent, and says how many
entries that leaves lost or unsure. It is never an answer to another link that writes: two links that both go
on would take the data set from each other for ever, so FOREIGN, NEWER_RUN and AHEAD always stop. PARTIAL and
REPLAY_REFUSED are the server's settings and not the data set's state: they are mended on the server.
"""

from __future__ import annotations

import enum

from .decisions import Cause
from .journal import Journal
from .marker import Marker, Refusal, Situation, TakeOver


class OnGap(enum.Enum):
    """The user's policy."""

    STOP = "stop"
    CONTINUE = "continue"


class OnOom(enum.Enum):
    """What becomes of a write that Redis refuses because it has reached ``maxmemory``."""

    #: The client is told, as Redis would tell it, unless it was told before that the write is done.
    REFUSE = "refuse"
    #: It waits until there is memory, and everything behind it: for clients that drop what is refused.
    HOLD = "hold"


def go_on(
    refusal: Refusal, marker: Marker, situation: Situation, journal: Journal, policy: OnGap
) -> TakeOver | Refusal:
    """Return how to go on where the policy and the cause allow it; otherwise the refusal."""
    if policy is OnGap.STOP:
        return refusal
    match refusal.cause:
        case Cause.GAP:
            return _from_the_beginning(journal, marker.seq or 0, refusal)
        case Cause.FORKED:
            # What the earlier run wrote stays; what this run has numbered since is sent behind it.
            return _from_the_beginning(journal, refusal.shared, refusal)
        case Cause.MARKER_LOST if situation.keys == 0:
            return _from_the_beginning(journal, 0, refusal)
        case Cause.MARKER_LOST:
            applied = _applied(situation, journal)
            unsure = applied - journal.first_seq + 1
            text = f"{unsure} entries up to {applied} may be missing in it"
            behind = journal.last_seq - applied
            if situation.last_history is None and behind:
                # Of an earlier run: nothing on disk tells whether they were sent.
                unsure += behind
                text += f", {behind} entries behind {applied} are sent again and may be in it twice"
            return _continued(applied, text, refusal, unsure=unsure)
        case Cause.OUTCOME_UNKNOWN:
            applied = _applied(situation, journal)
            unsure = journal.last_seq - applied
            text = f"{unsure} entries behind {applied} are sent again and may be in it twice"
            return _continued(applied, text, refusal, unsure=unsure)
        case _:
            return refusal


def _from_the_beginning(journal: Journal, behind: int, refusal: Refusal) -> TakeOver:
    """Send the entries behind ``behind``, as far as the journal still has them."""
    start = max(behind, journal.first_seq - 1)
    lost = start - behind
    return _continued(start, f"{lost} entries ({behind + 1} to {start}) are LOST" if lost else "", refusal, lost=lost)


def _continued(seq: int, counts: str, refusal: Refusal, lost: int = 0, unsure: int = 0) -> TakeOver:
    said = f"going on with the data set as it is (LINK_ON_GAP=continue): {counts or 'no entry is lost'}"
    return TakeOver(
        seq, write_seq=True, warning=f"{said}; cause: {refusal.cause.value}: {refusal.reason}", lost=lost, unsure=unsure
    )


def _applied(situation: Situation, journal: Journal) -> int:
    """Return the last entry known to have been applied to some master, also by an earlier run."""
    if situation.last_history is not None:
        return situation.last_applied
    entries = journal.range(journal.first_seq, journal.last_seq)
    waiting = next((entry.seq for entry in entries if not entry.acknowledged), journal.last_seq + 1)
    return waiting - 1
