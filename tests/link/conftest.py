"""Real redis-server processes, Sentinels and a link for the tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.processes import Cluster, LinkProcess


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


@pytest.fixture
def link(cluster: Cluster, tmp_path: Path) -> Iterator[LinkProcess]:
    link = LinkProcess(cluster.url, tmp_path / "link")
    link.start()
    try:
        yield link
    finally:
        link.kill()
        print(link.log.read_text()[-6000:])
