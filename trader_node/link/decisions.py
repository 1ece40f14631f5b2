"""What the core tells the shell to do with a connection."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Cause(enum.Enum):
    """Why the link stops; the values label a metric."""

    #: The data set belongs to the link of another journal.
    FOREIGN = "foreign"
    #: A newer run of a link on the same journal, or a copy of it, owns the data set.
    NEWER_RUN = "newer_run"
    #: The marker is ahead of everything that was ever accepted.
    AHEAD = "ahead"
    #: The data set holds entries of an earlier run whose numbers this run has given to others.
    FORKED = "forked"
    #: The data set ends before the journal begins.
    GAP = "gap"
    #: There is data and no marker.
    MARKER_LOST = "marker_lost"
    #: The marker was removed while a transaction was on its way.
    OUTCOME_UNKNOWN = "outcome_unknown"
    #: Redis carried out a part of a transaction.
    PARTIAL = "partial"
    #: Redis refuses to apply again what a client was told is done.
    REPLAY_REFUSED = "replay_refused"


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Close the connection and make a new one; ``rediscover``: it may be to another node."""

    reason: str
    rediscover: bool = False
    #: Seconds to wait first.
    delay: float = 0.0
    #: The node refused the connection itself.
    refused: bool = False
    #: It goes on like that until an operator mends it: login, rights, certificates.
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop for good; ``reason`` tells an operator what happened and what to do."""

    reason: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Ready:
    """The handshake is done: the data set holds the entries up to ``marker``; ``replay`` more follow."""

    marker: int
    replay: int
    #: What an operator should know, or empty.
    warning: str = ""


Decision = Reconnect | Halt | Ready
