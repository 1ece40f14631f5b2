"""Real redis-server processes, Sentinels and a link for the tests of this folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.processes import Cluster, Process, free_ports


@pytest.fixture(scope="session", autouse=True)
def redis_server() -> None:
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is not on PATH: run ./scripts/test, whose image has it")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class RunningLink(Process):
    """A link process."""

    def __init__(self, url: str, folder: Path, *, journal: bool = True, options: dict[str, str] | None = None) -> None:
        self.port, self.http_port = free_ports(2)
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            "REDIS_URL": url,
            "LINK_LISTEN": f"127.0.0.1:{self.port}",
            "LINK_HTTP": f"127.0.0.1:{self.http_port}",
            "LINK_JOURNAL_DIR": str(folder / "journal") if journal else "",
            **(options or {}),
        }
        super().__init__([sys.executable, "-m", "trader_node.link"], folder / "link.log", environment)


@pytest.fixture
def link(cluster: Cluster, tmp_path: Path) -> Iterator[RunningLink]:
    link = RunningLink(cluster.url, tmp_path / "link")
    link.start()
    try:
        yield link
    finally:
        link.kill()
        print(link.log.read_text()[-6000:])
