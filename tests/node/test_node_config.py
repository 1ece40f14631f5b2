"""The node's configuration: the paper market, and a user's own JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import REPOSITORY
from trader_node.node_config import NodePlan, plan_node, tuned_database
from trader_node.settings import Settings, SettingsError


def _plan(**env: str) -> NodePlan:
    return plan_node(Settings.from_env(env))


def _user_plan(folder: Path, content: Any, **env: str) -> NodePlan:
    path = folder / "node.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return _plan(TRADER_CONFIG=str(path), **env)


def test_the_database_is_tuned_for_outages() -> None:
    database = tuned_database("127.0.0.1", 7000, connection_timeout=2)
    assert (database.type, database.host, database.port) == ("redis", "127.0.0.1", 7000)
    assert database.connection_timeout == 2
    # A constant 0.1 s between attempts, never giving up; a timeout of a response would drop a batch.
    assert (database.exponent_base, database.factor, database.number_of_retries) == (1, 100, 1_000_000)
    assert database.response_timeout > 3600


def test_the_paper_node_has_the_research_documents_cache() -> None:
    plan = _plan()
    cache = plan.config.cache
    assert plan.paper
    assert plan.calculated_venues == ("PAPER",)
    assert cache.database == tuned_database("127.0.0.1", 6379)
    assert (cache.encoding, cache.buffer_interval_ms) == ("msgpack", 100)
    assert (cache.tick_capacity, cache.bar_capacity) == (10_000, 10_000)
    assert plan.config.load_state and plan.config.save_state
    assert plan.config.logging.use_pyo3
    assert plan.config.message_bus is None


def test_settings_reach_the_node() -> None:
    plan = _plan(
        TRADER_ID="DESK-9",
        TRADER_SEED="5",
        TRADER_ORDERS_PER_SECOND="200",
        TRADER_INSTRUMENTS="EURUSD.PAPER",
        CACHE_ENCODING="json",
        MESSAGE_BUS_DATABASE="true",
        LINK_LISTEN="127.0.0.1:7777",
        LOG_LEVEL="WARNING",
    )
    config = plan.config
    assert str(config.trader_id) == "DESK-9"
    assert config.cache.encoding == "json"
    assert config.message_bus.database == config.cache.database == tuned_database("127.0.0.1", 7777)
    (strategy,) = config.strategies
    assert strategy.config["instrument_ids"] == ["EURUSD.PAPER"]
    assert (strategy.config["orders_per_second"], strategy.config["seed"]) == (200.0, 5)
    # Nautilus' throttle must not deny what the setting asks for.
    assert int(config.risk_engine.max_order_submit_rate.split("/")[0]) >= 200
    assert config.logging.log_level == "WARNING"


def test_closed_positions_are_kept_for_ever_on_request() -> None:
    assert _plan().config.exec_engine.purge_from_database
    forever = _plan(TRADER_KEEP_CLOSED_MINUTES="0").config.exec_engine
    assert forever.purge_closed_positions_interval_mins is None
    assert not forever.purge_from_database


def test_an_unknown_paper_instrument_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"TRADER_INSTRUMENTS: 'DOGE\.PAPER'.*BTCUSDT"):
        _plan(TRADER_INSTRUMENTS="DOGE.PAPER")


def test_a_users_node_gets_the_database_and_keeps_the_rest(tmp_path: Path) -> None:
    content = {
        "timeout_post_stop": 3.0,
        "cache": {"tick_capacity": 5, "timestamps_as_iso8601": True},
        "logging": {"log_level": "ERROR"},
    }
    plan = _user_plan(tmp_path, content)
    assert not plan.paper
    assert plan.calculated_venues == ()
    assert plan.config.timeout_post_stop == 3.0
    assert plan.config.cache.tick_capacity == 5
    assert plan.config.cache.timestamps_as_iso8601
    assert plan.config.cache.bar_capacity == 10_000
    assert plan.config.cache.database == tuned_database("127.0.0.1", 6379)
    assert plan.config.logging.log_level == "ERROR"
    assert plan.config.logging.use_pyo3
    assert plan.config.exec_engine.purge_closed_orders_interval_mins is None


def test_a_users_message_bus_is_kept_and_gets_a_database_only_on_request(tmp_path: Path) -> None:
    content = {"message_bus": {"encoding": "json", "autotrim_mins": 5}}
    assert _user_plan(tmp_path, content).config.message_bus.database is None
    bus = _user_plan(tmp_path, content, MESSAGE_BUS_DATABASE="true").config.message_bus
    assert (bus.encoding, bus.autotrim_mins) == ("json", 5)
    assert bus.database == tuned_database("127.0.0.1", 6379)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "one JSON object"),
        ({"strategys": []}, "strategys"),
        ({"cache": []}, "'cache' must be an object"),
        ({"cache": {"database": {"host": "redis"}}}, "sets cache.database: remove it"),
        ({"cache": {"flush_on_start": True}}, "sets cache.flush_on_start: remove it"),
        ({"message_bus": {"database": {"host": "redis"}}}, "MESSAGE_BUS_DATABASE=true"),
        (
            {"exec_clients": {"X": {"path": "no.such.module:Config", "config": {}}}},
            "path='no.such.module:Config' cannot",
        ),
        ({"data_clients": {"X": {"path": "trader_node.market:Nothing", "config": {}}}}, "trader_node.market:Nothing"),
        (
            {"exec_clients": {"X": {"path": "trader_node.execution:PaperExecutionConfig", "config": {"venu": "X"}}}},
            "'X' cannot be configured",
        ),
        (
            {"strategies": [{"strategy_path": "mine:Best", "config_path": "mine:BestConfig", "config": {}}]},
            "strategy_path='mine:Best' cannot be imported (No module named 'mine')",
        ),
        ({"trader_id": "OTHER-001"}, "TRADER_ID"),
    ],
)
def test_a_users_mistake_is_told_in_one_line(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _user_plan(tmp_path, content)
    message = str(caught.value)
    assert message.startswith("TRADER_CONFIG")
    assert says in message
    assert "\n" not in message


def test_the_example_can_be_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "examples" / "own_strategy")
    plan = _plan(TRADER_CONFIG=str(REPOSITORY / "examples" / "own_strategy" / "node.json"))
    assert not plan.paper
    assert plan.calculated_venues == ("PAPER",)
