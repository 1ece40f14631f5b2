"""A real redis-server and real nodes for the tests of this folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drills.processes import Cluster, Process, free_ports
from trader_node.heartbeat import Heartbeat, NodeState, read_heartbeat
from trader_node.inspect import TraderKeys
from trader_node.redis_access import open_master
from trader_node.report import ReportError, request
from trader_node.settings import Settings

REPOSITORY = Path(__file__).parents[2]


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Return the first true result of the condition; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    pytest.fail(f"no {what} within {seconds:g} s")


class RedisServer(Process):
    """One Redis with an empty data set."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (self.port,) = free_ports(1)
        arguments = [
            "redis-server",
            "--port",
            str(self.port),
            "--dir",
            str(folder),
            "--save",
            "",
            "--bind",
            "127.0.0.1",
        ]
        super().__init__([*arguments, "--appendonly", "yes"], folder / "log")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def ping(self) -> bool:
        return subprocess.run(["redis-cli", "-p", str(self.port), "ping"], capture_output=True).stdout == b"PONG\n"


class Node(Process):
    """A trader process, by default the bare node without link and supervisor."""

    def __init__(
        self, folder: Path, redis: RedisServer, module: str = "trader_node.node", env: dict[str, str] | None = None
    ) -> None:
        self.state_dir = folder
        self.environment = {
            "REDIS_URL": redis.url,
            "LINK_LISTEN": f"127.0.0.1:{redis.port}",
            "LINK_HTTP": "",
            "LINK_JOURNAL_DIR": str(folder / "journal"),
            "STATE_DIR": str(folder),
            "TRADER_SEED": "7",
            "TRADER_ORDERS_PER_SECOND": "100",
            **(env or {}),
        }
        super().__init__([sys.executable, "-m", module], folder / "node.log", self.environment)

    def heartbeat(self) -> Heartbeat | None:
        return read_heartbeat(self.state_dir / "heartbeat")

    def wait_until_trading(self, fills: int = 1, seconds: float = 30.0) -> Heartbeat:
        def trading() -> Heartbeat | None:
            assert self.running, self.log.read_text()[-3000:]
            beat = self.heartbeat()
            fresh = beat is not None and beat.pid == self._traders_pid(beat)
            return beat if fresh and beat.state is NodeState.RUNNING and beat.fills >= fills else None

        return wait_until(trading, "trading node", seconds)

    def _traders_pid(self, beat: Heartbeat) -> int:
        # Under the supervisor the node is a child of the process that was started.
        return self.pid if self._arguments[-1] == "trader_node.node" else beat.pid

    def report(self, **command: Any) -> dict[str, Any]:
        return request(self.state_dir / "report.sock", {"command": "report", **command})

    def wait_for_report(self) -> dict[str, Any]:
        def answer() -> dict[str, Any] | None:
            try:
                return self.report()
            except ReportError:
                return None

        return wait_until(answer, "report")

    def command(self, module: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return run_module(module, *arguments, env=self.environment | env)

    def inspect(self) -> dict[str, Any]:
        """Return what Redis holds; in this process, because importing Nautilus takes two seconds each time."""
        settings = Settings.from_env(self.environment)
        with open_master(settings.redis) as client:
            record = TraderKeys(client, settings.trader_id, settings.encoding).record()
        # As it comes out of the command.
        plain: dict[str, Any] = json.loads(json.dumps(record))
        return plain


def run_module(module: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a module of ours as a command."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "LINK_HTTP": "127.0.0.1:1", **(env or {})},
        cwd=REPOSITORY,
        check=False,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory with a short name: the path of a Unix socket holds at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="node-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def redis(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder / "redis")
    server.start()
    wait_until(server.ping, "redis-server")
    yield server
    server.kill()


@pytest.fixture
def start_node(folder: Path, redis: RedisServer) -> Iterator[Callable[..., Node]]:
    """Starts nodes on the test's Redis, and ends them after the test."""
    nodes: list[Node] = []

    def start(module: str = "trader_node.node", **env: str) -> Node:
        node = Node(folder, redis, module, env)
        nodes.append(node)
        node.start()
        return node

    yield start
    for node in nodes:
        node.kill()
    if nodes and nodes[-1].log.exists():
        print(nodes[-1].log.read_text()[-3000:])


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    """A master, two replicas and three Sentinels."""
    cluster = Cluster(folder / "cluster")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
