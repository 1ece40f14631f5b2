"""Keeps the history of account states bounded, in memory and in Redis.

Nautilus writes a state of the account, some 800 bytes, with every fill. It can forget old ones in memory, but leaves
them in Redis (its deletion is "currently a no-op"): at 20 fills per second that is 1.4 GB per day, and each start
loads all of it. Only the newest state counts for what an account holds, so the older ones can go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

_INTERVAL_SECS = 60.0
_TIMEOUT_SECS = 10.0
#: States in Redis beyond those in memory, and a quarter of those: more than come in while a trim waits.
_SPARE_STATES = 100


class AccountHistory:
    """Trims the lists of account states through the link, like any other write.

    Parameters
    ----------
    node
        The Nautilus ``TradingNode``, built.
    redis_options
        How redis-py reaches Redis through the link.
    keep_minutes
        Age in minutes at which a state is forgotten; the newest is kept whatever its age.

    """

    def __init__(self, node: Any, redis_options: Mapping[str, Any], keep_minutes: int) -> None:
        self._node = node
        self._keep_secs = keep_minutes * 60
        self._redis_options = redis_options
        self._failed = False

    async def run(self) -> None:
        """Forget and trim once per minute until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_SECS)
            self._node.kernel.cache.purge_account_events(time.time_ns(), self._keep_secs)
            await self.trim()

    async def trim(self, *, settled: bool = False) -> None:
        """Drop from Redis the states that the node's memory does not hold; a failure is logged once and is no harm.

        The trim is a write like any other and may have to wait, for a failover say, while Nautilus' own connection goes
        on: states that get in before it must not push out as many that still count. So some that the node has
        forgotten stay, unless everything is ``settled``: nothing is traded and all is written.
        """
        client = Redis(**self._redis_options, socket_timeout=_TIMEOUT_SECS, socket_connect_timeout=_TIMEOUT_SECS)
        try:
            for account in self._node.kernel.cache.accounts():
                key = f"trader-{self._node.trader_id}:accounts:{account.id}"
                spare = 0 if settled else account.event_count // 4 + _SPARE_STATES
                await cast("Awaitable[str]", client.ltrim(key, -(account.event_count + spare), -1))
            self._failed = False
        except (RedisError, OSError) as error:
            if not self._failed:
                self._node.get_logger().warning(f"Account history not trimmed, trying again later: {error}")
            self._failed = True
        finally:
            await client.aclose()
