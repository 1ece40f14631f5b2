"""Planned work under full traffic: what is no fault must be no outage either."""

from __future__ import annotations

from drills.rolling import switch_over
from drills.stack import SENTINELS

from .base import Fault


class Switchover(Fault):
    """``SENTINEL FAILOVER`` while everything is well."""

    name = "switchover"
    summary = "a planned switchover: a Sentinel is asked to hand the master's role over"

    def prepare(self) -> None:
        """Choose the Sentinel."""
        self._sentinel = self.random.choice(SENTINELS)

    def inject(self) -> None:
        """Ask it."""
        self._successor = switch_over(self.stack, self._sentinel)

    def confirm(self) -> str:
        """Say what came of it: it was waited for."""
        return f"{self._sentinel} handed over from {self.master} to {self._successor}; {self.master} follows"

    def heal(self) -> None:
        """Nothing is broken."""


FAULTS: tuple[type[Fault], ...] = (Switchover,)
