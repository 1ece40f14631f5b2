"""The container's health check: a shell script that reads the heartbeat file."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import REPOSITORY
from trader_node.heartbeat import Heartbeat, NodeState, read_heartbeat
from trader_node.link.health import write_health

SCRIPT = REPOSITORY / "trader_node" / "healthcheck.sh"


def _check(folder: Path, **env: str) -> tuple[int, str]:
    result = subprocess.run(
        ["sh", str(SCRIPT)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "STATE_DIR": str(folder), **env},
        check=False,
    )
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    return result.returncode, result.stdout.strip()


def _beat(folder: Path, age: int = 0, **values: Any) -> None:
    now = int(time.time())
    values = {name: value() if callable(value) else value for name, value in values.items()}
    base = {"state": NodeState.RUNNING, "paper": 1, "expect_fills": 1, "last_quote": now, "last_fill": now}
    heartbeat = Heartbeat(**{**base, **values})
    heartbeat.write(folder / "heartbeat")
    if age:
        text = (folder / "heartbeat").read_text()
        (folder / "heartbeat").write_text(text.replace(f"time={heartbeat.time}\n", f"time={heartbeat.time - age}\n"))


def _ago(seconds: int) -> Callable[[], int]:
    """Return a time to be told when the test runs, not when it is collected."""
    return lambda: int(time.time()) - seconds


def test_a_trading_node_is_healthy(tmp_path: Path) -> None:
    _beat(tmp_path, positions_open=3, fills=17)
    assert _check(tmp_path) == (0, "healthy: 3 positions open, 17 fills since start")


def test_without_a_heartbeat_it_is_not(tmp_path: Path) -> None:
    code, text = _check(tmp_path)
    assert code == 1
    assert "no heartbeat yet" in text


def test_a_blocked_event_loop_shows_by_an_old_heartbeat(tmp_path: Path) -> None:
    _beat(tmp_path, age=30)
    code, text = _check(tmp_path)
    assert code == 1
    assert "last heartbeat 3" in text
    assert "hangs" in text
    assert _check(tmp_path, HEALTH_STALE_SECS="60")[0] == 0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"state": NodeState.WAITING, "since": _ago(7)}, "waiting for Redis for"),
        ({"state": NodeState.STARTING, "since": _ago(7)}, "starting for"),
        ({"state": NodeState.STOPPING, "since": _ago(7)}, "state STOPPING for"),
        ({"state": NodeState.STARTING, "since": _ago(40), "age": 40}, "starting for 4"),
        ({"last_quote": _ago(60)}, "no quote for 6"),
        ({"last_fill": _ago(60)}, "no fill for 6"),
        ({"last_fill": 0, "fills_since": _ago(60)}, "no fill for 6"),
    ],
)
def test_a_node_that_does_not_trade_is_not_healthy(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    _beat(tmp_path, **values)
    code, text = _check(tmp_path)
    assert code == 1
    assert says in text


@pytest.mark.parametrize(
    "values",
    [
        {"expect_fills": 0, "last_fill": 0},  # paused on request, or set to trade rarely
        {"last_fill": _ago(60), "fills_since": _ago(2)},  # just resumed
        {"paper": 0, "last_quote": 0, "last_fill": 0},  # a user's own node may be quiet
    ],
)
def test_a_node_that_need_not_trade_is_healthy(tmp_path: Path, values: dict[str, Any]) -> None:
    _beat(tmp_path, **values)
    assert _check(tmp_path)[0] == 0


def test_the_file_cannot_set_other_variables(tmp_path: Path) -> None:
    _beat(tmp_path)
    with (tmp_path / "heartbeat").open("a") as file:
        file.write("PATH=/nowhere\nstale_after=-1\n")
    assert _check(tmp_path)[0] == 0


def test_the_heartbeat_is_read_back_as_written(tmp_path: Path) -> None:
    heartbeat = Heartbeat(state=NodeState.RUNNING, quotes=5, fills=2, positions_open=1)
    heartbeat.write(tmp_path / "heartbeat")
    assert read_heartbeat(tmp_path / "heartbeat") == heartbeat


@pytest.mark.parametrize("content", ["", "state=DANCING\n", "state=RUNNING\nquotes=many\n", "nonsense"])
def test_a_damaged_heartbeat_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "heartbeat").write_text(content)
    assert read_heartbeat(tmp_path / "heartbeat") is None


def _tell(folder: Path, *, healthy: bool, reason: str = "", age: int = 0) -> None:
    write_health(folder / "link", healthy=healthy, state="ready" if healthy else "halted", reason=reason)
    if age:
        text = (folder / "link").read_text()
        stamp = int(dict(line.split("=", 1) for line in text.splitlines())["time"])
        (folder / "link").write_text(text.replace(f"time={stamp}", f"time={stamp - age}"))


def test_a_trading_node_with_a_link_that_works_is_healthy(tmp_path: Path) -> None:
    _beat(tmp_path)
    _tell(tmp_path, healthy=True)
    assert _check(tmp_path)[0] == 0


def test_a_link_that_stores_nothing_makes_a_trading_node_unhealthy(tmp_path: Path) -> None:
    _beat(tmp_path)
    _tell(tmp_path, healthy=False, reason="the data set ends at entry=3,\nbut the journal begins at 5")
    assert _check(tmp_path) == (
        1,
        "unhealthy: link halted: the data set ends at entry=3, but the journal begins at 5",
    )


def test_a_link_that_gives_no_sign_of_life_is_unhealthy(tmp_path: Path) -> None:
    _beat(tmp_path)
    _tell(tmp_path, healthy=True, age=8)
    assert _check(tmp_path)[0] == 0
    _tell(tmp_path, healthy=True, age=30)
    code, text = _check(tmp_path)
    assert code == 1
    assert "no sign of life of the link for 3" in text
