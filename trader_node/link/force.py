"""Whether to ask a Sentinel for a failover before the Sentinels are sure by themselves; off by default.

``SENTINEL FAILOVER`` promotes a replica without the agreement of other Sentinels, so a false alarm costs a needless
failover (never data: the marker decides what is replayed). Each guard rules out one kind of false alarm:

* the master refused a few connections, over some time: not one lost packet, not a restart in between;
* a majority of all Sentinels, asked since the outage began, have lost that same master themselves: it is not only the
  link that cannot reach it;
* no Sentinel has a failover under way;
* the last order was long ago: a failover that does not help is not repeated at once;
* the Sentinel that gets the order could reach a quorum (SENTINEL CKQUORUM).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .discovery import SentinelView
from .url import Address


@dataclass(frozen=True, slots=True)
class Guards:
    """Bounds of the guards; times in seconds."""

    refusals: int = 3
    over: float = 0.15
    pause: float = 10.0


class ForceDecision:
    """Counts refusals and decides. ``sentinels``: how many there are, whether they answer or not."""

    def __init__(self, sentinels: int, guards: Guards | None = None) -> None:
        self._majority = sentinels // 2 + 1
        self._guards = guards or Guards()
        self._node: Address | None = None
        self._refusals: list[float] = []
        self._ordered_at: float | None = None

    def refused(self, node: Address, now: float) -> None:
        """Take note that a node refused a connection; ``now`` in monotonic seconds."""
        if node != self._node:
            self._node, self._refusals = node, []
        self._refusals.append(now)

    def answered(self) -> None:
        """Take note that a master answers, or that it is not a refusal that keeps the link from it."""
        self._refusals = []

    def due(self, named: Address | None, views: Collection[SentinelView], now: float) -> bool:
        """Tell whether a failover may be asked for, if the Sentinel that gets the order can reach a quorum."""
        guards = self._guards
        if len(self._refusals) < guards.refusals or now - self._refusals[0] < guards.over:
            return False
        if named is None or named != self._node:
            return False
        if self._ordered_at is not None and now - self._ordered_at < guards.pause:
            return False
        if any(view.failing_over for view in views):
            return False
        agreeing = [view for view in views if view.master == named and view.lost and view.at >= self._refusals[0]]
        return len(agreeing) >= self._majority

    def ordered(self, now: float) -> None:
        """Take note that a Sentinel was given the order, whatever it answers."""
        self._ordered_at = now


def quorum_reachable(reply: object) -> bool:
    """Tell whether a reply to SENTINEL CKQUORUM is good: ``OK 3 usable Sentinels. Quorum ... can be reached``."""
    return isinstance(reply, str) and reply.startswith("OK ")
