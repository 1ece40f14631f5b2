"""How far every known node has come: the reason why an entry may be forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .sentinels import close, connect
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
        #: Nodes that did not answer last time.
        self.silent: set[Address] = set()

    async def refresh(self, nodes: Iterable[Address]) -> None:
        """Ask all nodes at the same time; one that does not answer keeps its last known marker."""
        await asyncio.gather(*(self._ask(node) for node in sorted(nodes)))

    def lowest(self) -> int:
        """Return the highest entry that all known nodes hold."""
        return min(self.seen.values(), default=0)

    async def stop(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            await close(connection)

    async def _ask(self, node: Address) -> None:
        self.seen.setdefault(node, 0)
        connection = self._connections.get(node)
        if connection is None:
            connection = self._connections[node] = connect(node, _TIMEOUT, self._target)
        try:
            owner, seq = await connection.hmget(self._marker_key, ["o", "s"])  # type: ignore[misc]
        except (RedisError, OSError) as error:
            if node not in self.silent:
                logger.warning("node %s:%d does not tell how far it is: %s", *node, error)
            self.silent.add(node)
            return
        self.silent.discard(node)
        own = owner is not None and owner.partition(":")[0] == self._journal_id
        self.seen[node] = int(seq) if own and seq is not None else 0
