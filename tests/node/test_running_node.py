"""Real nodes on a real Redis: what a node reports, what Redis holds, and what a restart brings back."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis

from drills.processes import free_ports, freeze, thaw
from tests.node.conftest import REPOSITORY, Node, RedisServer, wait_until
from trader_node.compare import differences
from trader_node.decisions import Intent
from trader_node.heartbeat import NodeState
from trader_node.link.rights import node_rights

StartNode = Callable[..., Node]


def _assert_whole(record: dict[str, Any]) -> None:
    """Check that a record shows real trading: hedged, with several fills per position, all orders accounted for."""
    positions, orders = record["positions"], record["orders"]
    assert len(positions) > 20
    assert {"LONG", "SHORT", "FLAT"} <= {p["side"] for p in positions.values()}
    assert max(len(p["events"]) for p in positions.values()) >= 3
    assert {o["status"] for o in orders.values()} == {"FILLED"}
    assert {tag for o in orders.values() for tag in o["tags"]} == {intent.value for intent in Intent}
    fills = [event for p in positions.values() for event in p["events"]]
    assert sorted(fill["client_order_id"] for fill in fills) == sorted(orders)
    for name in ("event_id", "trade_id", "venue_order_id"):
        assert len({fill[name] for fill in fills}) == len(fills), f"{name} is not unique"
    (account,) = record["accounts"].values()
    assert len(account["events"]) >= len(fills)


def test_redis_holds_exactly_what_the_node_knows_and_a_restart_brings_all_of_it_back(
    start_node: StartNode, redis: RedisServer
) -> None:
    node = start_node()
    node.wait_until_trading(fills=200)
    quiet = node.report(quiesce=True)
    assert quiet["quiesced"] and quiet["flushed"] and quiet["not_pausable"] == []
    _assert_whole(quiet)
    assert differences(quiet, node.inspect()) == []
    printed = node.command("trader_node.inspect", "--json")
    assert differences(quiet, json.loads(printed.stdout)) == []
    assert wait_until(lambda: (beat := node.heartbeat()) and beat.paused, "pause in the heartbeat")
    assert node.command("trader_node.report", "--resume").returncode == 0
    node.wait_until_trading(fills=len(quiet["orders"]) + 20)

    assert node.terminate() == 0
    stopped = node.inspect()
    assert len(stopped["orders"]) > len(quiet["orders"])

    # A second run that submits nothing: what it has in memory is what it loaded.
    second = start_node(TRADER_ORDERS_PER_SECOND="0")
    second.wait_until_trading(fills=0)
    loaded = second.wait_for_report()
    assert loaded["instance_id"] != quiet["instance_id"]
    assert differences(stopped, loaded) == []
    assert second.terminate() == 0

    # A third one that trades on: it manages the old positions, and no id comes twice.
    third = start_node()
    third.wait_until_trading(fills=120)
    after = third.report(quiesce=True)
    _assert_whole(after)
    assert differences(after, third.inspect()) == []
    assert set(stopped["orders"]) < set(after["orders"])
    still_open = [name for name, p in stopped["positions"].items() if p["side"] != "FLAT"]
    changed = [
        name for name in still_open if after["positions"][name]["events"] != stopped["positions"][name]["events"]
    ]
    assert changed, "no position of the earlier run was touched"
    assert after["counters"]["positions_open"] <= 40
    submitted = json.loads(after["strategies"]["HedgedBook-001"]["hedged_book_state"])["submitted"]
    assert sum(submitted.values()) == len(after["orders"])


def test_a_killed_node_loses_at_most_its_last_buffer_and_starts_again(start_node: StartNode) -> None:
    node = start_node()
    node.wait_until_trading(fills=120)
    before = node.report()
    node.kill()
    again = start_node(TRADER_ORDERS_PER_SECOND="0")
    again.wait_until_trading(fills=0)
    after = again.wait_for_report()
    # 100 orders/s and a buffer of 100 ms: some 10 orders, with room for a slow machine.
    assert len(before["orders"]) - 40 <= len(after["orders"])
    # What it has is consistent: every fill of a position belongs to a filled order.
    for position in after["positions"].values():
        for event in position["events"]:
            assert after["orders"][event["client_order_id"]]["status"] == "FILLED"


def test_a_json_cache_and_the_message_bus_work_too(start_node: StartNode, redis: RedisServer) -> None:
    env = {"CACHE_ENCODING": "json", "MESSAGE_BUS_DATABASE": "true", "TRADER_ID": "DESK.A-7"}
    node = start_node(**env)
    node.wait_until_trading(fills=60)
    quiet = node.report(quiesce=True)
    assert differences(quiet, node.inspect()) == []
    with Redis(port=redis.port) as client:
        assert any(client.scan_iter(match="trader-DESK.A-7:stream:*", count=1000))
    assert node.terminate() == 0
    stopped = node.inspect()
    second = start_node(**env, TRADER_ORDERS_PER_SECOND="0")
    second.wait_until_trading(fills=0)
    assert differences(stopped, second.wait_for_report()) == []


def test_an_own_strategy_runs_and_keeps_its_state(start_node: StartNode, redis: RedisServer) -> None:
    example = REPOSITORY / "examples" / "own_strategy"
    env = {"TRADER_CONFIG": str(example / "node.json"), "PYTHONPATH": f"{REPOSITORY}:{example}"}
    node = start_node(**env)
    beat = node.wait_until_trading(fills=3)
    assert not beat.paper
    assert node.terminate() == 0
    stopped = node.inspect()
    state = json.loads(stopped["strategies"]["Reversion-001"]["reversion_state"])
    assert state["trades"] == len(stopped["orders"])
    assert len(state["prices"]) == 20

    second = start_node(**env)
    second.wait_until_trading(fills=1)
    record = second.report(quiesce=True)
    assert record["not_pausable"] == [] and record["quiesced"]
    assert differences(record, second.inspect(), ("strategies", "orders")) == []
    assert set(stopped["orders"]) < set(record["orders"])
    assert json.loads(record["strategies"]["Reversion-001"]["reversion_state"])["trades"] == len(record["orders"])


def test_a_strategy_with_a_pause_of_its_own_is_left_alone(
    start_node: StartNode, redis: RedisServer, folder: Path
) -> None:
    example = REPOSITORY / "examples" / "own_strategy"
    code = folder / "code"
    code.mkdir()
    text = (example / "reversion.py").read_text()
    (code / "reversion.py").write_text(text.replace("paused", "resting").replace("def resume", "def go_on"))
    node = start_node(TRADER_CONFIG=str(example / "node.json"), PYTHONPATH=f"{REPOSITORY}:{code}")
    node.wait_until_trading(fills=1)
    record = node.report(quiesce=True)
    assert record["not_pausable"] == ["Reversion-001"] and not record["quiesced"]


def test_a_node_waits_for_redis_and_can_be_stopped_meanwhile(folder: Path) -> None:
    redis = RedisServer(folder / "redis")
    node = Node(folder, redis)
    node.start()
    beat = wait_until(lambda: node.heartbeat(), "heartbeat")
    assert beat.state is NodeState.WAITING
    started = time.monotonic()
    assert node.terminate() == -signal.SIGTERM
    assert time.monotonic() - started < 2
    node.start()
    wait_until(lambda: "no answer from Redis" in node.log.read_text(), "message")
    redis.start()
    try:
        node.wait_until_trading(fills=1)
    finally:
        node.kill()
        redis.kill()


def test_a_frozen_redis_does_not_stop_trading(start_node: StartNode, redis: RedisServer) -> None:
    node = start_node()
    beat = node.wait_until_trading(fills=20)
    freeze(redis)
    try:
        node.wait_until_trading(fills=beat.fills + 120)
    finally:
        thaw(redis)
    quiet = node.report(quiesce=True)
    assert quiet["flushed"]
    assert differences(quiet, node.inspect()) == []


def test_a_wrong_setting_ends_the_node_with_one_line(start_node: StartNode) -> None:
    node = start_node(TRADER_INSTRUMENTS="DOGE.PAPER")
    assert wait_until(lambda: not node.running, "end")
    assert node.terminate() == 2
    assert node.log.read_text().startswith("node: TRADER_INSTRUMENTS: 'DOGE.PAPER'")


class TestUnderTheSupervisor:
    """``python -m trader_node``: link and node together."""

    def _start(self, start_node: StartNode, **env: str) -> Node:
        port, http_port = free_ports(2)
        listen, http = f"127.0.0.1:{port}", f"127.0.0.1:{http_port}"
        return start_node("trader_node", LINK_LISTEN=listen, LINK_HTTP=http, LINK_DRAIN_TIMEOUT="0.5", **env)

    def test_it_trades_through_the_link_and_stops_cleanly(self, start_node: StartNode) -> None:
        trader = self._start(start_node)
        trader.wait_until_trading(fills=60)
        quiet = trader.report(quiesce=True)
        assert quiet["flushed"]
        assert differences(quiet, trader.inspect()) == []
        status = trader.command("trader_node.status", "--json", LINK_HTTP=trader.environment["LINK_HTTP"])
        found = json.loads(status.stdout)
        assert found["problems"] == []
        assert found["node"]["state"] == "RUNNING"
        assert found["link"]["state"] == "ready"
        assert found["stored"]["positions"] == len(quiet["positions"])
        assert trader.terminate() == 0
        assert differences(quiet, trader.inspect()) == []

    def test_it_trades_with_the_least_rights_and_a_login_at_the_link(
        self, start_node: StartNode, redis: RedisServer
    ) -> None:
        with Redis(port=redis.port) as client:
            client.execute_command("ACL", "SETUSER", "trader", "on", ">at-redis", *node_rights("TRADER-001").split())
            trader = self._start(
                start_node,
                REDIS_USERNAME="trader",
                REDIS_PASSWORD="at-redis",  # noqa: S106
                LINK_CLIENT_USERNAME="node",
                LINK_CLIENT_PASSWORD="at-the-link",  # noqa: S106
                MESSAGE_BUS_DATABASE="true",
            )
            trader.wait_until_trading(fills=60)
            quiet = trader.report(quiesce=True)
            assert quiet["flushed"]
            assert differences(quiet, trader.inspect()) == []
            assert trader.terminate() == 0
            assert client.keys("trader-TRADER-001:stream*"), "the message bus published nothing"
            # What the link asks for, and goes without: the answer would hold the password of the replicas.
            assert {entry["object"] for entry in client.acl_log()} == {"config|get"}
        log = trader.log.read_text()
        assert "at-redis" not in log
        assert "at-the-link" not in log

    def test_it_stops_within_the_grace_period_while_redis_is_down(
        self, start_node: StartNode, redis: RedisServer
    ) -> None:
        trader = self._start(start_node)
        trader.wait_until_trading(fills=60)
        redis.kill()
        time.sleep(0.5)
        beat = trader.heartbeat()
        assert beat is not None
        trader.wait_until_trading(fills=beat.fills + 20)
        started = time.monotonic()
        assert trader.terminate(seconds=20) == 137
        assert 10 <= time.monotonic() - started < 18
        log = trader.log.read_text()
        assert "the node has not stopped within 10 s, as when Redis is down: killing it" in log
        assert "leaving" in log
