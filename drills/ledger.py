"""What was asked of Redis, one operation after another, and how each ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Outcome(enum.Enum):
    """How an operation ended, seen by its client; the three are never mixed."""

    #: A reply said that it was done: it has to be there, once.
    OK = "ok"
    #: A reply said that it was not done: it must not be there.
    FAILED = "failed"
    #: No reply, or one that leaves it open: it may be there, at most once.
    INDETERMINATE = "indeterminate"


@dataclass(slots=True)
class Ledger:
    """Appends of growing integers to lists, by key, in the order in which they were made."""

    operations: dict[str, dict[int, Outcome]] = field(default_factory=dict)
    #: Longest time between two acknowledgements, in seconds, and when the last one came (monotonic).
    longest_stall: float = 0.0
    _last_ok: float | None = None

    def began(self, key: str, value: int) -> None:
        """Take note of an operation that is about to be sent."""
        self.operations.setdefault(key, {})[value] = Outcome.INDETERMINATE

    def ended(self, key: str, value: int, outcome: Outcome, now: float) -> None:
        """Take note of how it ended; ``now`` in monotonic seconds."""
        self.operations[key][value] = outcome
        if outcome is Outcome.OK:
            if self._last_ok is not None:
                self.longest_stall = max(self.longest_stall, now - self._last_ok)
            self._last_ok = now

    def count(self, outcome: Outcome) -> int:
        """Return how many operations ended like that."""
        return sum(list(values.values()).count(outcome) for values in self.operations.values())


@dataclass(slots=True)
class Verdict:
    """The difference between the ledger and what Redis holds."""

    ok: int = 0
    failed: int = 0
    indeterminate: int = 0
    lost: list[tuple[str, int]] = field(default_factory=list)
    duplicated: list[tuple[str, int]] = field(default_factory=list)
    reordered: list[tuple[str, int]] = field(default_factory=list)
    #: In Redis though nobody asked, or though the client was told that it failed.
    phantom: list[tuple[str, int]] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether every accepted write is there exactly once and in order, and nothing else."""
        return not (self.lost or self.duplicated or self.reordered or self.phantom)

    def __str__(self) -> str:
        """Return the counts, for people."""
        return (
            f"{self.ok} acknowledged, {self.indeterminate} indeterminate, {self.failed} failed; "
            f"lost {len(self.lost)}, duplicated {len(self.duplicated)}, reordered {len(self.reordered)}, "
            f"phantom {len(self.phantom)}"
        )


def check(ledger: Ledger, found: dict[str, list[int]]) -> Verdict:
    """Compare one by one what was asked with the lists that Redis holds."""
    verdict = Verdict(
        ok=ledger.count(Outcome.OK),
        failed=ledger.count(Outcome.FAILED),
        indeterminate=ledger.count(Outcome.INDETERMINATE),
    )
    for key, operations in ledger.operations.items():
        values = found.get(key, [])
        seen: set[int] = set()
        highest = -1
        for value in values:
            if value in seen:
                verdict.duplicated.append((key, value))
                continue
            seen.add(value)
            if value < highest:
                verdict.reordered.append((key, value))
            highest = max(highest, value)
            if operations.get(value, Outcome.FAILED) is Outcome.FAILED:
                verdict.phantom.append((key, value))
        verdict.lost.extend(
            (key, value) for value, outcome in operations.items() if outcome is Outcome.OK and value not in seen
        )
    verdict.phantom.extend((key, value) for key in found.keys() - ledger.operations.keys() for value in found[key])
    return verdict
