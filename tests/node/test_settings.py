"""Settings from the environment: defaults, and errors that tell the variable, the value and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from trader_node.settings import Settings, SettingsError


def test_the_defaults_are_those_of_the_research_document() -> None:
    settings = Settings.from_env({})
    assert settings.trader_id == "TRADER-001"
    assert (settings.encoding, settings.buffer_interval_ms) == ("msgpack", 100)
    assert (settings.tick_capacity, settings.bar_capacity) == (10_000, 10_000)
    assert settings.orders_per_second == 20.0
    assert not settings.message_bus_database
    assert (settings.link_host, settings.link_port) == ("127.0.0.1", 6379)
    assert len(settings.instruments) >= 3


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_env({"TRADER_SEED": "", "TRADER_CONFIG": "", "LOG_LEVEL": " "}) == Settings.from_env({})


def test_values_are_taken(tmp_path: Path) -> None:
    config = tmp_path / "node.json"
    config.write_text("{}")
    settings = Settings.from_env(
        {
            "REDIS_URL": "sentinel://u:p@s1:1,s2:2/m",
            "TRADER_ID": "DESK.A-7",
            "TRADER_SEED": "-3",
            "TRADER_INSTRUMENTS": " A.B , C.D ",
            "TRADER_CONFIG": str(config),
            "CACHE_ENCODING": "JSON",
            "MESSAGE_BUS_DATABASE": "Yes",
            "LOG_LEVEL": "debug",
            "LINK_LISTEN": "[::1]:7000",
        }
    )
    assert settings.redis.hosts == (("s1", 1), ("s2", 2))
    assert settings.trader_id == "DESK.A-7"
    assert settings.seed == -3
    assert settings.instruments == ("A.B", "C.D")
    assert settings.config_path == config
    assert (settings.encoding, settings.message_bus_database, settings.log_level) == ("json", True, "DEBUG")
    assert (settings.link_host, settings.link_port) == ("::1", 7000)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("REDIS_URL", "http://x", "unknown scheme"),
        ("TRADER_ID", "trader", "NAME-TAG"),
        ("TRADER_ID", "A-*", "NAME-TAG"),
        ("TRADER_SEED", "abc", "whole number"),
        ("TRADER_ORDERS_PER_SECOND", "fast", "number from 0 to 1000"),
        ("TRADER_ORDERS_PER_SECOND", "nan", "out of range"),
        ("TRADER_ORDERS_PER_SECOND", "1001", "out of range"),
        ("TRADER_INSTRUMENTS", ",", "comma separated"),
        ("TRADER_INSTRUMENTS", "A.B,A.B", "once"),
        ("TRADER_KEEP_CLOSED_MINUTES", "-1", "out of range"),
        ("TRADER_CONFIG", "/nowhere/node.json", "mount it"),
        ("CACHE_ENCODING", "pickle", "msgpack, json"),
        ("CACHE_BUFFER_INTERVAL_MS", "0", "1 to 1000"),
        ("CACHE_TICK_CAPACITY", "1e4", "whole number"),
        ("CACHE_BAR_CAPACITY", "0", "out of range"),
        ("MESSAGE_BUS_DATABASE", "maybe", "true or false"),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO"),
        ("LINK_LISTEN", "6379", "not an address"),
        ("LINK_LISTEN", "0.0.0.0:6379", "not on loopback"),
        ("LINK_LISTEN", "127.0.0.1:70000", "not an address"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: value})
    message = str(caught.value)
    assert message.startswith(name)
    assert says in message
    assert "\n" not in message


def test_a_password_is_neither_in_errors_nor_in_the_representation() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"REDIS_URL": "sentinel://user:secret@s1:99999/m"})
    assert "secret" not in str(caught.value)
    settings = Settings.from_env({"REDIS_URL": "redis://user:secret@r:1"})
    assert "secret" not in repr(settings)
    assert settings.redis.password == "secret"  # noqa: S105


def test_the_login_of_the_link_goes_to_its_clients_and_not_into_the_representation() -> None:
    settings = Settings.from_env({"LINK_CLIENT_PASSWORD": "secret", "REDIS_SENTINEL_PASSWORD": "hidden"})
    options = {"host": "127.0.0.1", "port": 6379, "username": "default", "password": "secret"}
    assert settings.link_options == options
    assert settings.redis.sentinel_password == "hidden"  # noqa: S105
    assert "secret" not in repr(settings)
    assert "hidden" not in repr(settings)
    with pytest.raises(SettingsError, match="LINK_CLIENT_USERNAME='node' is set without LINK_CLIENT_PASSWORD"):
        Settings.from_env({"LINK_CLIENT_USERNAME": "node"})
