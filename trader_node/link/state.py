"""What identifies a link across its restarts."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field


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
