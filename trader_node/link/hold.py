"""How often and how long writes could not be applied."""

from __future__ import annotations


class Hold:
    """Times without a master that takes writes; the start counts as one until the first master is found."""

    def __init__(self, now: float) -> None:
        #: Since when (monotonic seconds) nothing can be applied, or None.
        self.since: float | None = now
        self.count = 1
        self._finished = 0.0

    def note(self, works: bool, now: float) -> float | None:
        """Take note of whether writes can be applied; return the seconds of a hold that ends with this."""
        if works == (self.since is None):
            return None
        if not works:
            self.since = now
            self.count += 1
            return None
        duration = now - (self.since or now)
        self._finished += duration
        self.since = None
        return duration

    def seconds(self, now: float) -> float:
        """Return the length of all holds, the present one included."""
        return self._finished + (now - self.since if self.since is not None else 0.0)
