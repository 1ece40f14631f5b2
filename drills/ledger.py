"""What was asked of Redis, one operation after another, and how each ended."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


class Outcome(enum.IntEnum):
    """How an operation ended, seen by its client; the three are never mixed."""

    #: No reply, or one that leaves it open: it may be there, at most once.
    INDETERMINATE = 0
    #: A reply said that it was done: it has to be there, once.
    OK = 1
    #: A reply said that it was not done: it must not be there.
    FAILED = 2


class Record:
    """Appends of 0, 1, 2, ... to one list by one client, in this order; one byte per operation."""

    __slots__ = ("_high", "_low", "closed", "ended", "outcomes")

    def __init__(self) -> None:
        #: The outcome of each value; the value is the index.
        self.outcomes = bytearray()
        #: How many operations have ended; those behind are under way.
        self.ended = 0
        #: Whether the client appends no more.
        self.closed = False
        # A flush of the database: values below ``_low`` were acknowledged before it was asked for and must be gone,
        # those from ``_high`` on were begun after it was answered and must be there; in between it cut somewhere.
        self._low = self._high = 0

    def began(self, count: int) -> range:
        """Take note of operations that are about to be sent; return their values."""
        first = len(self.outcomes)
        self.outcomes.extend(bytes(count))
        return range(first, first + count)

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Take note of how the oldest operations under way ended."""
        self.outcomes[self.ended : self.ended + len(outcomes)] = bytes(outcomes)
        self.ended += len(outcomes)

    def flush_asked(self) -> None:
        """Take note that a flush of the database is about to be sent."""
        self._low, self._high = self.ended, len(self.outcomes)

    def flush_answered(self) -> None:
        """Take note that the flush was done."""
        self._high = len(self.outcomes)

    def compare(self, key: str, values: Iterable[int], verdict: Verdict) -> None:
        """Compare one by one with the list that Redis holds; differences are added to ``verdict``."""
        seen = bytearray(len(self.outcomes))
        highest = -1
        for value in values:
            if not 0 <= value < len(seen) or self.outcomes[value] == Outcome.FAILED or value < self._low:
                verdict.phantom.append((key, value))
                continue
            if seen[value]:
                verdict.duplicated.append((key, value))
                continue
            seen[value] = 1
            if value < highest:
                verdict.reordered.append((key, value))
            highest = max(highest, value)
        start = seen.find(1)
        flushed = self._high if start < 0 else min(start, self._high)
        verdict.lost.extend(
            (key, value)
            for value in range(flushed, len(seen))
            if not seen[value] and self.outcomes[value] == Outcome.OK
        )


@dataclass(slots=True)
class Availability:
    """When acknowledgements came, since a fault. Times in seconds of the monotonic clock."""

    marked: float = field(default_factory=time.monotonic)
    longest_stall: float = 0.0
    #: When the first operation that was sent after the fault was acknowledged.
    first_ok: float | None = None
    _last_ok: float | None = None

    def mark(self) -> None:
        """Begin again: a fault is about to happen."""
        self.longest_stall = 0.0
        self.struck()

    def struck(self) -> None:
        """Take note that the fault is there: the first write is one that is sent from now on."""
        self.marked, self.first_ok = time.monotonic(), None

    def acknowledged(self, began: float, now: float) -> None:
        """Take note of acknowledgements at ``now`` of operations that were sent at ``began``."""
        if self._last_ok is not None:
            self.longest_stall = max(self.longest_stall, now - self._last_ok)
        self._last_ok = now
        if self.first_ok is None and began >= self.marked:
            self.first_ok = now


class Ledger:
    """Appends of growing integers to lists, by key."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.counts = dict.fromkeys(Outcome, 0)
        self.availability = Availability()

    def open(self, key: str) -> Record:
        """Begin a list."""
        record = self.records[key] = Record()
        return record

    def ended(self, record: Record, outcomes: Sequence[Outcome], began: float, now: float) -> None:
        """Take note of how operations ended that were sent at ``began``; both times in monotonic seconds."""
        record.finished(outcomes)
        for outcome in outcomes:
            self.counts[outcome] += 1
        if Outcome.OK in outcomes:
            self.availability.acknowledged(began, now)

    def count(self, outcome: Outcome) -> int:
        """Return how many operations ended like that."""
        return self.counts[outcome]

    def flush_asked(self) -> None:
        """Take note that a flush of the database is about to be sent."""
        for record in list(self.records.values()):
            record.flush_asked()

    def flush_answered(self) -> None:
        """Take note that the flush was done."""
        for record in list(self.records.values()):
            record.flush_answered()

    @property
    def longest_stall(self) -> float:
        """Longest time between two acknowledgements, in seconds."""
        return self.availability.longest_stall


@dataclass(slots=True)
class Verdict:
    """The difference between the ledger and what Redis holds."""

    ok: int = 0
    failed: int = 0
    indeterminate: int = 0
    lost: list[tuple[str, int]] = field(default_factory=list)
    duplicated: list[tuple[str, int]] = field(default_factory=list)
    reordered: list[tuple[str, int]] = field(default_factory=list)
    #: In Redis though nobody asked, or though the client was told that it failed, or though it was deleted.
    phantom: list[tuple[str, int]] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether every accepted write is there exactly once and in order, and nothing else."""
        return not (self.lost or self.duplicated or self.reordered or self.phantom)

    def differences(self) -> str:
        """Return the counts of what is wrong."""
        return (
            f"lost {len(self.lost)}, duplicated {len(self.duplicated)}, reordered {len(self.reordered)}, "
            f"phantom {len(self.phantom)}"
        )

    def __str__(self) -> str:
        """Return the counts, for people."""
        return f"{self.ok} acknowledged, {self.indeterminate} indeterminate, {self.failed} failed; {self.differences()}"


def check(ledger: Ledger, found: dict[str, list[int]]) -> Verdict:
    """Compare one by one what was asked with the lists that Redis holds."""
    verdict = Verdict(
        ok=ledger.count(Outcome.OK),
        failed=ledger.count(Outcome.FAILED),
        indeterminate=ledger.count(Outcome.INDETERMINATE),
    )
    for key, record in list(ledger.records.items()):
        record.compare(key, found.get(key, []), verdict)
    verdict.phantom.extend((key, value) for key in found.keys() - ledger.records.keys() for value in found[key])
    return verdict
