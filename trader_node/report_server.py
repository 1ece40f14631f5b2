"""Answers requests for the node's own record over a Unix socket, from inside its event loop.

One JSON object per line each way. Requests: ``{"command": "report" | "quiesce" | "resume" | "ping"}``; ``report`` may
carry ``"quiesce": true``. The client is :mod:`trader_node.report`.
"""

# The compiled modules of Nautilus ship without type stubs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from trader_node.account_history import AccountHistory
from trader_node.account_ledger import AccountLedger
from trader_node.monitor import Monitor
from trader_node.snapshot import Record, trader_record

#: Key of Nautilus' general objects that shows how far its write buffer has reached Redis.
BARRIER_KEY = "report_barrier"
_QUIET_SECS = 5.0
_FLUSH_SECS = 10.0
_LONGEST_REQUEST = 4096
_ATTEMPTS = 20


class ReportServer:
    """Serves the record of one node.

    Parameters
    ----------
    node
        The Nautilus ``TradingNode``, built.
    monitor
        Its monitor, for the counters.
    path
        Unix socket to listen on; one left behind by a dead process is replaced.
    redis_options
        How redis-py reaches Redis through the link.
    buffer_interval_ms
        Milliseconds between two batches of Nautilus' writes.
    history
        Trims account states in Redis, None if they all stay.

    """

    def __init__(
        self,
        node: Any,
        monitor: Monitor,
        path: Path,
        redis_options: Mapping[str, Any],
        buffer_interval_ms: int,
        history: AccountHistory | None = None,
    ) -> None:
        self._node = node
        self._monitor = monitor
        self._ledger = AccountLedger(node)
        self._path = path
        self._redis_options = redis_options
        self._history = history
        self._buffer_secs = buffer_interval_ms / 1000
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        OSError
            If the socket cannot be created.

        """
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=_LONGEST_REQUEST)
        self._path.chmod(0o600)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(await self._answer(line) + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # the client is gone, or sent more than a request can be
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> bytes:
        try:
            return await self._carry_out(line)
        except Exception as error:
            # Whatever went wrong, the client is told, and the node trades on.
            return msgspec.json.encode({"error": f"{type(error).__name__}: {error}"})

    async def _carry_out(self, line: bytes) -> bytes:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            return msgspec.json.encode({"error": f"not a JSON object: {error}"})
        command = request.get("command", "report")
        if command == "ping":
            return msgspec.json.encode(self._head())
        if command == "resume":
            return msgspec.json.encode(self._resume())
        if command == "quiesce":
            return msgspec.json.encode(await self._quiesce())
        if command == "report":
            quiesced = await self._quiesce() if request.get("quiesce") else {}
            return msgspec.json.encode(self._record_of_one_moment() | quiesced)
        return msgspec.json.encode({"error": f"unknown command {command!r}: report, quiesce, resume, ping"})

    def _record_of_one_moment(self) -> Record:
        """Return the record, taken again if an order came in between: Nautilus' timers have threads of their own."""
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(RuntimeError):  # set or dictionary changed size during iteration
                return self.record()
        return self.record()

    def record(self) -> Record:
        """Return everything in the node's cache, with the identity of the process and its counters."""
        cache = self._node.kernel.cache
        strategies = {str(s.id): s.on_save() for s in self._node.trader.strategies()}
        return (
            self._head()
            | trader_record(
                str(self._node.trader_id),
                cache.positions(),
                cache.orders(),
                ((account, self._ledger.events(account)) for account in cache.accounts()),
                strategies,
            )
            | {"index": self._index()}
        )

    def _index(self) -> Record:
        """Return Nautilus' index of ids, named as in Redis."""
        cache = self._node.kernel.cache
        sets = {
            "orders": cache.client_order_ids(),
            "orders_open": cache.client_order_ids_open(),
            "orders_closed": cache.client_order_ids_closed(),
            "orders_inflight": cache.client_order_ids_inflight(),
            "orders_emulated": cache.client_order_ids_emulated(),
            "positions": cache.position_ids(),
            "positions_open": cache.position_open_ids(),
            "positions_closed": cache.position_closed_ids(),
        }
        return {name: sorted(str(item) for item in list(ids)) for name, ids in sets.items()} | {
            "order_position": {
                str(order_id): str(position_id)
                for order_id in list(cache.client_order_ids())
                if (position_id := cache.position_id(order_id)) is not None
            },
            "order_client": {
                str(order_id): str(client_id)
                for order_id in list(cache.client_order_ids())
                if (client_id := cache.client_id(order_id)) is not None
            },
        }

    def _head(self) -> Record:
        beat = self._monitor.heartbeat
        kernel = self._node.kernel
        return {
            "trader_id": str(self._node.trader_id),
            "instance_id": str(self._node.instance_id),
            "pid": os.getpid(),
            "started_ns": kernel.ts_started,
            "ts_ns": time.time_ns(),
            "state": beat.state,
            "counters": {
                "quotes": beat.quotes,
                "fills": beat.fills,
                "orders": kernel.cache.orders_total_count(),
                "positions": kernel.cache.positions_total_count(),
                "positions_open": kernel.cache.positions_open_count(),
            },
        }

    def _resume(self) -> Record:
        for strategy in self._monitor.pausable():
            strategy.resume()
        return {"quiesced": False}

    async def _quiesce(self) -> Record:
        """Hold new orders, wait until nothing happens any more, save the states, wait until all of it is in Redis."""
        pausable = self._monitor.pausable()
        others = [str(s.id) for s in self._node.trader.strategies() if s not in pausable]
        for strategy in pausable:
            strategy.pause()
        quiet = await self._wait_until_quiet()
        for strategy in self._node.trader.strategies():
            self._node.kernel.cache.update_strategy(strategy)
        flushed = await self._wait_until_flushed()
        if flushed and self._history is not None:
            await self._history.trim(settled=quiet and not others)
        return {"quiesced": quiet and not others, "not_pausable": others, "flushed": flushed}

    async def _wait_until_quiet(self) -> bool:
        deadline = time.monotonic() + _QUIET_SECS
        cache, beat = self._node.kernel.cache, self._monitor.heartbeat
        seen = None
        while time.monotonic() < deadline:
            now = (beat.fills, cache.orders_total_count(), cache.orders_inflight_count())
            if now == seen and now[2] == 0:
                return True
            seen = now
            await asyncio.sleep(max(0.05, self._buffer_secs))
        return False

    async def _wait_until_flushed(self) -> bool:
        """Write a mark through Nautilus' buffer and wait until Redis shows it: all writes before it are there too."""
        token = secrets.token_hex(8).encode()
        self._node.kernel.cache.add(BARRIER_KEY, token)
        key = f"trader-{self._node.trader_id}:general:{BARRIER_KEY}"
        deadline = time.monotonic() + _FLUSH_SECS
        client = Redis(**self._redis_options, socket_timeout=1.0, socket_connect_timeout=1.0)
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(RedisError, OSError):
                    if await client.get(key) == token:
                        return True
                await asyncio.sleep(self._buffer_secs / 2)
        finally:
            await client.aclose()
        return False
