"""What identifies a link across its restarts."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

#: Runs whose beginnings are remembered one by one.
_MOST_RUNS = 64


@dataclass(slots=True)
class LinkState:
    """Identity of a journal and what it knows of the data set that it began on."""

    #: Identity of the journal: part of the owner that the marker names.
    journal_id: str = field(default_factory=lambda: secrets.token_hex(8))
    #: Counts the starts of the link.
    incarnation: int = 0
    #: Whether a master ever carried this journal's marker.
    contacted: bool = False
    #: Marker of another journal that was found at the first contact: that data set is what this journal begins on.
    adopted_owner: str = ""
    adopted_seq: int = 0
    #: Where runs of the link have begun: number of the run, and the last entry before its own. What an earlier run has
    #: numbered behind that is something else than what this journal holds under the same numbers.
    runs: list[list[int]] = field(default_factory=list)
    #: The marker that tells how much of this journal a data set holds. Another one would count something else.
    marker_key: str = ""

    def note_run(self, began_behind: int) -> None:
        """Remember where the present run began; of very old runs only the strictest bound is kept."""
        self.runs.append([self.incarnation, began_behind])
        if len(self.runs) > _MOST_RUNS:
            (_, first), (run, second), *rest = self.runs
            self.runs = [[run, min(first, second)], *rest]

    def shared_with(self, incarnation: int) -> int | None:
        """Return the last entry that means the same to an earlier run as to this journal; None: all do."""
        return min((began for run, began in self.runs if run > incarnation), default=None)
