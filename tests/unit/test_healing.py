"""What a healed stack has to look like: the settings with which its containers started, and where an upgrade may go."""

from __future__ import annotations

import pytest

from drills.healing import node_settings, same, sentinel_settings
from drills.images import refuse_upgrade

CONFIG = """
# Settings
port 6379
bind * -::*
dir /data
appendfsync everysec
save ""
repl-backlog-size 64mb
"""


def test_a_node_has_the_settings_of_its_file_and_of_its_environment() -> None:
    assert node_settings(CONFIG, {"REDIS_MAXMEMORY": "1gb", "REDIS_MIN_REPLICAS": "0"}) == {
        "appendfsync": "everysec",
        "save": "",
        "repl-backlog-size": "64mb",
        "maxmemory": "1gb",
        "min-replicas-to-write": "0",
        "min-replicas-max-lag": "2",
    }


def test_what_is_empty_in_the_environment_has_its_default() -> None:
    assert node_settings("", {"REDIS_MAXMEMORY": ""})["maxmemory"] == "512mb"


@pytest.mark.parametrize(
    ("one", "other"),
    [("67108864", "64mb"), ("1gb", "1073741824"), ("1k", "1000"), ("yes", "YES"), ("", ""), ("0", "0"), ("2", "2")],
)
def test_values_that_mean_the_same(one: str, other: str) -> None:
    assert same(one, other)


@pytest.mark.parametrize(("one", "other"), [("64mb", "64m"), ("everysec", "always"), ("1", "0"), ("", "0"), ("k", "m")])
def test_values_that_do_not(one: str, other: str) -> None:
    assert not same(one, other)


@pytest.mark.parametrize(("last", "milliseconds"), [(21, "700"), (22, "850"), (23, "1000")])
def test_the_earlier_sentinels_of_the_list_suspect_the_master_earlier(last: int, milliseconds: str) -> None:
    """Measured in a settled stack with ``SENTINEL_DOWN_AFTER_MS=1000``."""
    listed = " ".join(f"172.28.77.{byte}:26379" for byte in (21, 22, 23))
    settings = sentinel_settings({"SENTINELS": listed, "SENTINEL_IP": f"172.28.77.{last}"})
    assert settings == {
        "down-after-milliseconds": milliseconds,
        "failover-timeout": "3000",
        "parallel-syncs": "1",
        "quorum": "2",
    }


def test_a_sentinel_has_what_its_environment_says() -> None:
    settings = sentinel_settings(
        {
            "SENTINELS": "10.0.0.1:26379",
            "SENTINEL_IP": "10.0.0.1",
            "SENTINEL_DOWN_AFTER_MS": "5000",
            "SENTINEL_FAILOVER_TIMEOUT_MS": "9000",
            "SENTINEL_QUORUM": "1",
        }
    )
    assert settings["down-after-milliseconds"] == "5000"
    assert settings["failover-timeout"] == "9000"
    assert settings["quorum"] == "1"


@pytest.mark.parametrize(("running", "other"), [("7.4.2", "7.4.5"), ("7.0.15", "7.0.15"), ("7.2.7", "7.2.1")])
def test_an_upgrade_within_a_series_can_go_back(running: str, other: str) -> None:
    assert refuse_upgrade(running, other) == ""


@pytest.mark.parametrize(("running", "other"), [("7.4.2", "7.2.7"), ("7.0.15", "7.4.5"), ("7.4.2", "8.0.1")])
def test_an_upgrade_to_another_series_is_refused_with_what_to_set(running: str, other: str) -> None:
    said = refuse_upgrade(running, other)
    assert f"UPGRADE_REDIS_IMAGE is Redis {other}" in said
    assert f"another image of Redis {running.rpartition('.')[0]}" in said
