"""Connections that a server ends as soon as they are made, again and again: how long to wait, and when to worry."""

from __future__ import annotations

from .url import Address

#: A connection that has lasted for so many seconds was a good one.
_GOOD_SECONDS = 1.0
#: So many quick losses may be chance, or what several faults at once look like: the next attempt is made at once.
_FREE = 3
_FIRST_DELAY = 0.05
_MOST_DELAY = 1.0


class QuickLosses:
    """Counts connections to one node that were lost soon after they were made, one after the other."""

    def __init__(self) -> None:
        self._node: Address | None = None
        self.count = 0

    def lost(self, node: Address, lasted: float) -> float:
        """Take note of a connection that was lost after ``lasted`` seconds; return the seconds to wait."""
        if node != self._node or lasted >= _GOOD_SECONDS:
            self.count = 0
        self._node = node
        self.count += lasted < _GOOD_SECONDS
        beyond = self.count - _FREE
        # The exponent is bounded too: this may go on for days.
        return min(_FIRST_DELAY * 2 ** min(beyond - 1, 10), _MOST_DELAY) if beyond > 0 else 0.0

    @property
    def worrying(self) -> bool:
        """Whether it goes on like that."""
        return self.count > _FREE
