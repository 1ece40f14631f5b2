"""The commands for people, and what they say when things are down or wrong."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from redis import Redis

from drills.processes import Cluster
from drills.waiting import wait_until
from tests.node.conftest import Node, RedisServer, run_module
from trader_node import inspect, positions, status
from trader_node.link.url import parse_redis_url
from trader_node.redis_access import RedisAccessError, ask_all, find_master

COMMANDS = {"positions": positions.main, "inspect": inspect.main, "status": status.main}


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers, as a frozen or partitioned server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://x", "REDIS_URL: unknown scheme 'ftp'"),
        ("redis://127.0.0.1:1", "127.0.0.1:1"),
        ("sentinel://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", "127.0.0.1:1"),
    ],
)
def test_trouble_is_one_clear_line_and_no_traceback(
    command: Callable[[], None],
    url: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # In this process: importing Nautilus takes two seconds each time.
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(typer.Exit) as caught:
        command()
    assert caught.value.exit_code != 0
    out, err = capsys.readouterr()
    assert says in out + err


@pytest.mark.parametrize("kind", ["redis", "sentinel"])
def test_a_silent_server_does_not_hold_up_the_status(silent_port: int, kind: str) -> None:
    started = time.monotonic()
    result = run_module("trader_node.status", "--json", env={"REDIS_URL": f"{kind}://127.0.0.1:{silent_port}"})
    # Start of Python included.
    assert time.monotonic() - started < 5
    assert result.returncode == 1
    assert json.loads(result.stdout)["problems"]


def test_a_lookup_that_takes_for_ever_is_left_behind() -> None:
    never = threading.Event()

    def ask(address: tuple[str, int]) -> str:
        if address[0] == "slow":
            never.wait(30)
        return address[0]

    started = time.monotonic()
    slow, fast = ask_all([("slow", 1), ("fast", 1)], ask, timeout=0.3)
    assert time.monotonic() - started < 2
    assert isinstance(slow, TimeoutError)
    assert fast == "fast"


def test_positions_are_listed_for_people(
    start_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = start_node()
    node.wait_until_trading(fills=80)
    record = node.report(quiesce=True)
    monkeypatch.setenv("REDIS_URL", node.environment["REDIS_URL"])
    positions.main(limit=0)
    lines = capsys.readouterr().out.splitlines()
    for name, position in record["positions"].items():
        (line,) = [line for line in lines if re.search(rf"\b{re.escape(name)}\b", line)]
        assert position["instrument_id"] in line
        assert position["realized_pnl"] in line
    positions.main(open_only=True, limit=5)
    only_open = capsys.readouterr().out
    assert only_open.count("P-") == 5
    assert "FLAT" not in only_open
    positions.main(trader="OTHER-1")
    assert "OTHER-1: 0 positions, 0 open" in capsys.readouterr().out


def test_a_damaged_record_is_named(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Redis(port=redis.port) as client:
        client.rpush("trader-TRADER-001:orders:O-1", b"\xc1not msgpack")
    monkeypatch.setenv("REDIS_URL", redis.url)
    with pytest.raises(typer.Exit):
        inspect.main()
    assert "O-1 cannot be decoded" in capsys.readouterr().err


def test_a_missing_node_is_told(tmp_path: Path) -> None:
    result = run_module("trader_node.report", env={"STATE_DIR": str(tmp_path)})
    assert result.returncode == 2
    assert "is it running" in result.stderr


def test_sentinels_are_asked_for_the_master(cluster: Cluster) -> None:
    target = parse_redis_url(cluster.url)
    assert find_master(target) == ("127.0.0.1", cluster.node_ports[0])
    with pytest.raises(RedisAccessError, match="no Sentinel knows a master named 'other'"):
        find_master(parse_redis_url(cluster.url.replace("/mymaster", "/other")))
    whole = json.loads(run_module("trader_node.status", "--json", env={"REDIS_URL": cluster.url}).stdout)
    assert whole["problems"] == ["node: no heartbeat: the trader does not run in this container"]
    assert [node["role"] for node in whole["nodes"]] == ["master", "replica", "replica"]
    assert whole["sentinels"]["quorum_ok"] == whole["sentinels"]["known"] == 3

    for port in cluster.sentinel_ports[:2]:
        cluster.sentinels[port].kill()
    cluster.nodes[cluster.node_ports[2]].kill()
    wounded = run_module("trader_node.status", env={"REDIS_URL": cluster.url})
    assert wounded.returncode == 1
    assert f"replica 127.0.0.1:{cluster.node_ports[2]}" in wounded.stdout
    assert f"Sentinel 127.0.0.1:{cluster.sentinel_ports[0]}" in wounded.stdout
    assert "no failover possible" in wounded.stdout or "1 of 3 see a quorum" in wounded.stdout
    assert find_master(target) == ("127.0.0.1", cluster.node_ports[0])


def test_sentinels_that_the_url_does_not_name_count_too(cluster: Cluster) -> None:
    first, second, _ = cluster.sentinel_ports
    url = f"sentinel://127.0.0.1:{first},127.0.0.1:{second}/mymaster"
    shown = run_module("trader_node.status", env={"REDIS_URL": url}).stdout
    assert "2 of 2 asked, of 3, see a quorum" in shown

    cluster.sentinels[second].kill()
    # One of the two that are asked, and the third one: that is enough.
    wounded = json.loads(run_module("trader_node.status", "--json", env={"REDIS_URL": url}).stdout)
    assert wounded["sentinels"]["quorum_ok"] == 1
    assert not [problem for problem in wounded["problems"] if "no failover possible" in problem]
    cluster.sentinels[cluster.sentinel_ports[2]].kill()
    wait_until(
        lambda: "no failover possible" in run_module("trader_node.status", env={"REDIS_URL": url}).stdout,
        20,
        "no quorum is told",
    )
