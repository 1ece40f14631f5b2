"""Runs the trading node: ``python -m trader_node.node``.

Usually started by the supervisor (``python -m trader_node``), together with the link. It can run against any Redis by
itself: it connects to ``LINK_LISTEN`` and does not care what answers there.
"""

# The compiled modules of Nautilus ship without type stubs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from nautilus_trader.live.node import TradingNode

from trader_node.account_history import AccountHistory
from trader_node.execution import keep_account
from trader_node.heartbeat import Heartbeat, NodeState
from trader_node.monitor import Monitor
from trader_node.node_config import NodePlan, plan_node
from trader_node.readiness import answers
from trader_node.report_server import ReportServer
from trader_node.settings import Settings, SettingsError

_SAY_FIRST_SECS = 2.0
_SAY_EVERY_SECS = 5.0


def wait_for_redis(settings: Settings, beat: Callable[[], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """Return when Redis answers a read through the link; say every few seconds that it does not.

    Nautilus would wait too, but within its own code, where it neither writes a heartbeat nor takes a signal.
    """
    started = time.monotonic()
    # The first message comes early, the others at the usual distance.
    said = started - _SAY_EVERY_SECS + _SAY_FIRST_SECS
    while not answers(settings.link_host, settings.link_port, settings.trader_id, login=settings.link_login):
        beat()
        if time.monotonic() - said >= _SAY_EVERY_SECS:
            said = time.monotonic()
            address = f"{settings.link_host}:{settings.link_port}"
            print(f"node: no answer from Redis at {address} for {said - started:.0f} s, waiting", flush=True)
        sleep(0.05)


async def _run(node: TradingNode, settings: Settings, monitor: Monitor) -> None:
    redis_options = settings.link_options
    # Only what we make the node forget: a user's own node keeps its history.
    forgets = monitor.heartbeat.paper and settings.keep_closed_minutes
    history = AccountHistory(node, redis_options, settings.keep_closed_minutes) if forgets else None
    reports = ReportServer(node, monitor, settings.report_socket, redis_options, settings.buffer_interval_ms, history)
    await reports.start()
    tasks = [asyncio.create_task(monitor.run(), name="heartbeat")]
    if history is not None:
        tasks.append(asyncio.create_task(history.run(), name="account history"))
    try:
        await node.run_async()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        reports.close()
        monitor.heartbeat.enter(NodeState.STOPPING)
        monitor.beat()


def run_node(settings: Settings, plan: NodePlan) -> int:
    """Run the node until it is stopped by SIGTERM or SIGINT; return the process's exit code."""
    heartbeat = Heartbeat(paper=int(plan.paper))
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    heartbeat.enter(NodeState.WAITING)
    wait_for_redis(settings, lambda: heartbeat.write(settings.heartbeat_path))
    heartbeat.enter(NodeState.STARTING)
    heartbeat.write(settings.heartbeat_path)
    for venue in plan.calculated_venues:
        keep_account(venue)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    node = TradingNode(config=plan.config, loop=loop)
    try:
        node.build()
        loop.run_until_complete(_run(node, settings, Monitor(node, settings.heartbeat_path, heartbeat)))
    finally:
        # Writes what is still buffered; blocks until Redis has taken it.
        node.dispose()
    return 0


def main() -> int:
    """Check the settings and run; return the process's exit code, 2 for a wrong setting."""
    try:
        settings = Settings.from_env()
        plan = plan_node(settings)
    except SettingsError as error:
        print(f"node: {error}", file=sys.stderr)
        return 2
    try:
        return run_node(settings, plan)
    except KeyboardInterrupt:  # before the event loop took over the signals
        return 130


if __name__ == "__main__":
    sys.exit(main())
