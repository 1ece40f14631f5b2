"""How far every known node has come: the reason why an entry may be forgotten."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from . import access
from .events import event
from .sentinels import close, connect, refusal_of
from .url import Address, RedisTarget

logger = logging.getLogger("link.replicas")

_TIMEOUT = 0.5


class ReplicaMarkers:
    """The last marker seen on each node, that of a node which is down included: it may come back as it was."""

    def __init__(self, target: RedisTarget, marker_key: str, journal_id: str) -> None:
        self._target = target
        self._marker_key = marker_key
        self._journal_id = journal_id
        self._connections: dict[Address, Redis] = {}
        self.seen: dict[Address, int] = {}
        #: Earlier sightings of each node, oldest first: monotonic time and marker.
        self._history: dict[Address, deque[tuple[float, int]]] = {}
        #: Nodes that did not answer last time.
        self.silent: set[Address] = set()

    async def refresh(self, nodes: Iterable[Address]) -> None:
        """Ask all nodes at the same time; one that does not answer keeps its last known marker.

        A node that is not among them any more has been removed: it is forgotten.
        """
        known = set(nodes)
        for node in self.seen.keys() - known:
            await self._forget(node)
        await asyncio.gather(*(self._ask(node) for node in sorted(known)))

    def held_everywhere(self, age: float) -> int:
        """Return the highest entry that all known nodes have held for ``age`` seconds before they last answered.

        What a node showed only just before it died may have been in its memory alone, and it comes back without.
        """
        return min((self._held(node, age) for node in self.seen), default=0)

    def held_by_answering(self, age: float) -> int:
        """The same for the nodes that answer, if they are at least two: all that can be had while one is down."""
        answering = self.seen.keys() - self.silent
        return min((self._held(node, age) for node in answering), default=0) if len(answering) > 1 else 0

    def held_while_all_answer(self, age: float) -> int:
        """The same as ``held_everywhere``, if no node is silent; for a shorter time than that was ever asked for."""
        return 0 if self.silent else min((self._held_lately(node, age) for node in self.seen), default=0)

    def _held_lately(self, node: Address, age: float) -> int:
        history = self._history.get(node)
        if not history:
            return 0
        latest, lowest = history[-1]
        for seen_at, seq in reversed(history):
            lowest = min(lowest, seq)
            if seen_at <= latest - age:
                return lowest
        return 0

    def _held(self, node: Address, age: float) -> int:
        history = self._history.get(node)
        if not history:
            return 0
        # A roll-back in between counts: the lowest of what it showed since then.
        latest = history[-1][0]
        while len(history) > 1 and history[1][0] <= latest - age:
            history.popleft()
        return min(seq for _, seq in history) if history[0][0] <= latest - age else 0

    async def stop(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            await close(connection)

    async def _forget(self, node: Address) -> None:
        del self.seen[node]
        self._history.pop(node, None)
        self.silent.discard(node)
        connection = self._connections.pop(node, None)
        if connection is not None:
            await close(connection)

    async def _ask(self, node: Address) -> None:
        self.seen.setdefault(node, 0)
        connection = self._connections.get(node)
        if connection is None:
            connection = self._connections[node] = connect(node, _TIMEOUT, self._target)
        try:
            owner, seq = await connection.hmget(self._marker_key, ["o", "s"])  # type: ignore[misc]
            number = int(seq) if seq is not None else 0
        except (RedisError, OSError, ValueError) as error:
            if node not in self.silent:
                refusal = refusal_of(error, access.USERNAME, access.PASSWORD)
                logger.warning(
                    "node %s:%d does not tell how far it is: %s",
                    *node,
                    refusal or error,
                    extra=event("node_silent", node=f"{node[0]}:{node[1]}"),
                )
            self.silent.add(node)
            return
        self.silent.discard(node)
        own = owner is not None and owner.partition(":")[0] == self._journal_id
        self.seen[node] = number if own else 0
        self._history.setdefault(node, deque()).append((time.monotonic(), self.seen[node]))
