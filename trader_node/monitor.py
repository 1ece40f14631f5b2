"""Watches a running node from inside its own event loop and writes its heartbeat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trader_node.heartbeat import Heartbeat, NodeState

HEARTBEAT_SECS = 1.0
#: Seconds between two lines in the log that say how trading goes.
_PROGRESS_SECS = 60.0
#: What a strategy has that can be held still from outside.
_PAUSING = ("pause", "resume", "paused")


class Monitor:
    """Counts quotes and fills, and writes the heartbeat once per second.

    It runs in the node's event loop on purpose: if that loop blocks, the heartbeat gets old, and the health check
    tells.

    Parameters
    ----------
    node
        The Nautilus ``TradingNode``, built.
    path
        Heartbeat file.
    heartbeat
        The process's heartbeat, shared with whoever writes it before the loop runs.

    """

    def __init__(self, node: Any, path: Path, heartbeat: Heartbeat) -> None:
        self._node = node
        self._path = path
        self.heartbeat = heartbeat
        self._write_failed = False
        node.kernel.msgbus.subscribe(topic="data.quotes.*", handler=self._on_quote)
        node.kernel.msgbus.subscribe(topic="events.fills.*", handler=self._on_fill)

    def _on_quote(self, _quote: Any) -> None:
        self.heartbeat.quotes += 1
        self.heartbeat.last_quote = int(time.time())

    def _on_fill(self, _fill: Any) -> None:
        self.heartbeat.fills += 1
        self.heartbeat.last_fill = int(time.time())

    def pausable(self) -> list[Any]:
        """Return the strategies that can hold back new orders; ``pause`` alone may mean something else."""
        return [s for s in self._node.trader.strategies() if all(hasattr(s, name) for name in _PAUSING)]

    async def run(self) -> None:
        """Write heartbeats until cancelled."""
        next_progress = time.monotonic() + _PROGRESS_SECS
        while True:
            self.beat()
            if time.monotonic() >= next_progress:
                next_progress += _PROGRESS_SECS
                self._log_progress()
            await asyncio.sleep(HEARTBEAT_SECS)

    def beat(self) -> None:
        """Write one heartbeat; a failure is logged once and does not stop trading."""
        self._update()
        try:
            self.heartbeat.write(self._path)
        except OSError as error:
            if not self._write_failed:
                self._node.get_logger().error(f"Heartbeat cannot be written to {self._path}: {error}")
            self._write_failed = True
        else:
            self._write_failed = False

    def _update(self) -> None:
        beat, cache = self.heartbeat, self._node.kernel.cache
        if beat.state is NodeState.STARTING and self._node.trader.is_running:
            beat.enter(NodeState.RUNNING)
            beat.last_quote = beat.last_quote or beat.since
        elif beat.state is NodeState.RUNNING and not self._node.trader.is_running:
            beat.enter(NodeState.STOPPING)
        beat.orders = cache.orders_total_count()
        beat.positions_open = cache.positions_open_count()
        strategies = self.pausable()
        beat.paused = int(any(s.paused for s in strategies))
        # At lower rates than one order per second a gap of some seconds is ordinary.
        rates = [getattr(s.config, "orders_per_second", 0) for s in strategies]
        expect = int(bool(beat.paper) and not beat.paused and max(rates, default=0) >= 1)
        if expect and not beat.expect_fills:
            beat.fills_since = int(time.time())
        beat.expect_fills = expect

    def _log_progress(self) -> None:
        beat = self.heartbeat
        log: Callable[[str], None] = self._node.get_logger().info
        log(
            f"{beat.state}: {beat.positions_open} positions open, {beat.orders} orders in cache, "
            f"{beat.fills} fills and {beat.quotes} quotes since start"
        )
