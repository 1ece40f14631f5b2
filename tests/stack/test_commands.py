"""The commands that people type, on a small stack of their own; and what they say to a mistake."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.stack import Stack, docker
from drills.waiting import wait_until
from tests.stacks import ROOT, run_script

from .checks import new_orders

ENVIRONMENT = {
    "COMPOSE_PROJECT_NAME": f"{Stack(ROOT).project}-single",
    "SUBNET_PREFIX": os.environ.get("TEST_SINGLE_SUBNET_PREFIX", "172.28.80"),
    "REDIS_1_PORT": "16391",
    "REDIS_2_PORT": "16392",
    "REDIS_3_PORT": "16393",
    "SENTINEL_1_PORT": "26391",
    "SENTINEL_2_PORT": "26392",
    "SENTINEL_3_PORT": "26393",
}


def run(command: str, *arguments: str, expect: int = 0, **environment: str) -> str:
    """Run one of our scripts as a user would; return all that it printed."""
    said = run_script({**os.environ, **ENVIRONMENT, **environment}, command, *arguments, expect=expect)
    assert "Traceback" not in said
    return said


@pytest.fixture(scope="module")
def single() -> Iterator[Stack]:
    """A single instance, started by ./scripts/up."""
    run("down", "--volumes", "--yes")
    output = run("up", "--single")
    assert "Trading: orders in Redis rose" in output
    try:
        yield Stack(ROOT, ("compose/base.yaml", "compose/single.yaml"), ENVIRONMENT)
    finally:
        run("down", "--volumes", "--yes")


def test_second_up_builds_nothing(single: Stack) -> None:
    before = set(docker("images", "--no-trunc", "--quiet", "nautilus-redis-ha/*").split())
    started = single.inspect_container("trader")["State"]["StartedAt"]
    output = run("up", "--single")
    assert set(docker("images", "--no-trunc", "--quiet", "nautilus-redis-ha/*").split()) == before
    assert single.inspect_container("trader")["State"]["StartedAt"] == started, "a running stack was touched"
    assert "Building" not in output


def test_status_and_positions(single: Stack) -> None:
    status = run("status")
    assert "redis-1:6379" in status
    assert "TRADER-001" in status
    positions = run("positions")
    assert "PAPER" in positions
    assert any(side in positions for side in ("LONG", "SHORT", "FLAT"))


def test_single_instance_survives_a_restart_of_redis(single: Stack) -> None:
    from trader_node.compare import differences, missing

    before = single.report()
    single.kill("redis-1")
    single.start("redis-1")
    wait_until(lambda: new_orders(single, before) > 20, 60, "the node trades on")
    own = single.report("--quiesce")
    held = single.trader.in_redis("redis-1")
    single.report("--resume")
    assert not differences(own, held)
    assert not missing(before, held, "positions")


def test_other_topology_on_the_same_volumes_is_refused_or_safe(single: Stack) -> None:
    output = run("up", "--config", "/nowhere/node.json", expect=1)
    assert "/nowhere/node.json" in output
    assert single.running("trader")


def test_deleting_data_needs_a_yes(single: Stack) -> None:
    output = run("down", "--volumes", expect=1)
    assert "--yes" in output
    assert single.running("redis-1")


def test_logs(single: Stack) -> None:
    assert "logger=link" in run("logs", "trader")


def test_own_strategy_trades(single: Stack) -> None:
    example = ROOT / "examples" / "own_strategy"
    output = run("up", "--single", "--config", str(example / "node.json"), "--code", str(example))
    assert "healthy" in output
    wait_until(lambda: len(single.report()["orders"]) > 0, 60, "the own strategy sends orders")
    assert any("HedgedBook" not in order["strategy_id"] for order in single.report()["orders"].values())


@pytest.mark.parametrize(
    ("environment", "needles"),
    [
        ({"REDIS_URL": "sentinel://s1:notaport/mymaster"}, ["REDIS_URL", "port of host 's1'"]),
        ({"REDIS_URL": "mysql://s1:1/mymaster"}, ["REDIS_URL", "mysql", "sentinel"]),
        ({"REDIS_URL": "sentinel://u:s3cret@s1:99999/mymaster"}, ["REDIS_URL", "port of host 's1'"]),
        ({"TRADER_ORDERS_PER_SECOND": "many"}, ["TRADER_ORDERS_PER_SECOND", "many"]),
        ({"CACHE_ENCODING": "xml"}, ["CACHE_ENCODING", "xml"]),
    ],
)
def test_wrong_setting_of_the_trader_is_named(single: Stack, environment: dict[str, str], needles: list[str]) -> None:
    options = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
    done = subprocess.run(
        ["docker", "run", "--rm", *options, "nautilus-redis-ha/trader:local", "python", "-m", "trader_node"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert all(needle in said for needle in needles), said
    assert "Traceback" not in said
    assert "s3cret" not in said


def test_unknown_master_name_is_named(running_stack: Stack) -> None:
    url = "sentinel://sentinel-1:26379,sentinel-2:26379,sentinel-3:26379/nosuchmaster"
    # The environment of the container asks for a journal on disk, which the running link holds.
    said = _one_off(running_stack, url, expect=2)
    assert "nosuchmaster" in said
    assert "Traceback" not in said


def _one_off(stack: Stack, url: str, expect: int) -> str:
    command = ["python", "-m", "trader_node.link", "--listen", "127.0.0.1:6390", "--http", "", "--journal-dir", ""]
    done = subprocess.run(
        [
            "docker",
            "exec",
            "-e",
            f"REDIS_URL={url}",
            "-e",
            "LINK_ACKNOWLEDGE_HELD_AFTER=-1",
            stack.container("trader"),
            *command,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout + done.stderr


def test_port_in_use_is_named(running_stack: Stack) -> None:
    """Nothing is started when a port is taken."""
    project = f"{ENVIRONMENT['COMPOSE_PROJECT_NAME']}-port"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"REDIS_1_PORT": "16396", "REDIS_2_PORT": str(port), "REDIS_3_PORT": "16398"}
        output = run("up", expect=1, COMPOSE_PROJECT_NAME=project, SUBNET_PREFIX="172.28.83", **ports)
    assert "REDIS_2_PORT" in output
    assert str(port) in output
    assert not docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}").strip()


def test_subnet_in_use_is_named(running_stack: Stack) -> None:
    project = f"{ENVIRONMENT['COMPOSE_PROJECT_NAME']}-subnet"
    subnet = running_stack.environment.get("SUBNET_PREFIX", "172.28.77")
    output = run("up", expect=1, COMPOSE_PROJECT_NAME=project, SUBNET_PREFIX=subnet, REDIS_1_PORT="16396")
    assert "SUBNET_PREFIX" in output
    assert not docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}").strip()


def test_old_compose_and_missing_engine_are_named(tmp_path: Path) -> None:
    fake = tmp_path / "docker"
    fake.write_text(
        '#!/bin/sh\ncase "$*" in "compose version --short") echo 2.17.3 ;; info*) exit 0 ;; *) exit 1 ;; esac\n'
    )
    fake.chmod(0o755)
    output = run("up", expect=1, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert "2.17.3" in output
    assert "too old" in output
    output = run("up", expect=1, DOCKER_HOST="unix:///nowhere/docker.sock")
    assert "/nowhere/docker.sock" in output
