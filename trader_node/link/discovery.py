"""Who is the master: what the Sentinels say, and what the nodes say of themselves.

A wrong choice costs time and never data, because the marker decides what is replayed; so this module may believe the
fastest witness. Rules:

* the answer with the highest config-epoch counts, and among equals the one that most Sentinels give;
* while the named master does not answer, another known node that says it is a master is taken: Sentinel announces a
  promotion about a second after the promoted node accepts writes;
* a node that no Sentinel lists any more was removed by the operator: Sentinels forget nothing by themselves, a node
  that is down for months stays on their lists. Only then it is forgotten here too, and no entry is kept for it. A
  Sentinel that is told to forget (SENTINEL RESET) finds a node that is down only when that is back, so a reset
  while one is down looks the same: it is the operator's word, and the log says what it costs;
* a node's own word never counts against a Sentinel's word that is newer than the outage: a healed old master goes on
  calling itself master for up to 12 s.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .url import Address

#: Seconds for which no Sentinel lists a node before it counts as removed. A Sentinel that was reset (SENTINEL RESET),
#: or has just started, lists the nodes that are up again within a few seconds.
FORGET_AFTER = 60.0
#: Seconds without a look after which what was seen before proves nothing: somebody stopped the link, or its host.
_LONGEST_PAUSE = 15.0


@dataclass(frozen=True, slots=True)
class SentinelView:
    """One Sentinel's answer to SENTINEL MASTER."""

    master: Address
    config_epoch: int
    #: Monotonic seconds.
    at: float
    #: Whether it sees the master as down.
    down: bool = False
    #: Whether it has no connection to the master, or sees it as down.
    lost: bool = False
    #: Whether it knows of a failover under way.
    failing_over: bool = False


@dataclass(slots=True)
class Discovery:
    """The state of knowledge about the nodes."""

    #: Answers of Sentinels, by their address.
    views: dict[Address, SentinelView] = field(default_factory=dict)
    #: Data nodes that Sentinel has named, masters and replicas, those that are down included.
    nodes: set[Address] = field(default_factory=set)
    #: Which replicas a Sentinel listed last, by the Sentinel's address; of those that answer.
    listed: dict[Address, set[Address]] = field(default_factory=dict)
    #: Since when no Sentinel lists a node (monotonic seconds).
    unlisted_since: dict[Address, float] = field(default_factory=dict)
    #: When the lists were last looked at for nodes that are missing (monotonic seconds).
    looked_at: float = 0.0
    #: When a node last said that it is a master (monotonic seconds).
    masters_seen: dict[Address, float] = field(default_factory=dict)
    #: Since when the link has had no working connection, and to which node it was.
    outage_since: float | None = None
    failed: Address | None = None

    def sentinel_said(self, sentinel: Address, view: SentinelView) -> None:
        """Take a Sentinel's answer; an older epoch of the same Sentinel is out of date and ignored."""
        known = self.views.get(sentinel)
        if known is None or view.config_epoch >= known.config_epoch:
            self.views[sentinel] = view
            self.nodes.add(view.master)

    def sentinel_lost(self, sentinel: Address) -> None:
        """Forget what a Sentinel that does not answer once said."""
        self.views.pop(sentinel, None)
        self.listed.pop(sentinel, None)

    def nodes_named(self, sentinel: Address, nodes: set[Address]) -> None:
        """Take the addresses of the replicas that a Sentinel lists."""
        self.nodes |= nodes
        self.listed[sentinel] = nodes

    def forget_removed(self, sentinels: int, now: float) -> set[Address]:
        """Forget and return the nodes that have been on no list for ``FORGET_AFTER`` seconds.

        ``sentinels`` is how many there are, and all of them have to answer all the time: one that does not may list the
        node, and promote it. While they see the master as down the time starts anew as well: a Sentinel that is reset
        then finds no replica at all.
        """
        paused = now - self.looked_at > _LONGEST_PAUSE
        self.looked_at = now
        if paused or len(self.views) < sentinels or any(view.down for view in self.views.values()):
            self.unlisted_since.clear()
            return set()
        listed = {view.master for view in self.views.values()}.union(*self.listed.values())
        for node in self.unlisted_since.keys() & listed:
            del self.unlisted_since[node]
        for node in self.nodes - listed:
            self.unlisted_since.setdefault(node, now)
        removed = {node for node, since in self.unlisted_since.items() if now - since >= FORGET_AFTER}
        for node in removed:
            self.nodes.discard(node)
            self.masters_seen.pop(node, None)
            del self.unlisted_since[node]
        return removed

    def node_said(self, node: Address, *, master: bool, now: float) -> None:
        """Take a node's own word about its role."""
        if master:
            self.masters_seen[node] = now
        else:
            self.masters_seen.pop(node, None)

    def connection_failed(self, node: Address, now: float) -> None:
        """Take note that a node does not serve the link as a master."""
        if self.outage_since is None:
            self.outage_since = now
        self.failed = node
        self.masters_seen.pop(node, None)

    def connection_works(self) -> None:
        """Take note that the outage is over."""
        self.outage_since = None
        self.failed = None

    @property
    def epoch(self) -> int:
        """The highest config-epoch that a Sentinel tells of; -1 if none answers."""
        return max((view.config_epoch for view in self.views.values()), default=-1)

    def named(self) -> Address | None:
        """Return the master that the Sentinels name, or None if none answers."""
        if not self.views:
            return None
        epoch = self.epoch
        votes = Counter(view.master for view in self.views.values() if view.config_epoch == epoch)
        return votes.most_common(1)[0][0]

    def candidates(self, now: float) -> list[Address]:
        """Return the nodes worth a connection, best first."""
        named = self.named()
        promoted = [
            node
            for node, at in sorted(self.masters_seen.items(), key=lambda item: -item[1])
            if node not in (named, self.failed) and self.outage_since is not None and at >= self.outage_since
        ]
        if named is None:
            # No Sentinel to ask: the node that served last may have lost no more than a connection.
            return [*promoted, self.failed] if self.failed is not None else promoted
        if named == self.failed:
            return [*promoted, named]
        return [named, *promoted]

    def named_since(self, at: float) -> Address | None:
        """Return the master that the Sentinels name, if all of them have said so since ``at`` and see it as up."""
        named = self.named()
        agree = all(view.at > at and view.master == named and not view.down for view in self.views.values())
        return named if agree else None

    def better_than(self, node: Address, now: float) -> Address | None:
        """Return a node to leave ``node`` for while that one does not answer, or None.

        Another node's own word is not enough: a Sentinel has to agree that ``node`` is not the master any more, or that
        it is down. Otherwise a slow answer would send the link to an old master that still calls itself one.
        """
        best = next(iter(self.candidates(now)), None)
        if best in (None, node):
            return None
        backed = not self.views or any(view.down or view.master != node for view in self.views.values())
        return best if backed else None

    def to_probe(self) -> set[Address]:
        """Return the nodes to ask for their role during an outage."""
        return self.nodes - {self.failed} if self.outage_since is not None else set()
