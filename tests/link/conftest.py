"""Real redis-server processes, Sentinels and a link for the tests of this folder."""

from __future__ import annotations

import json
import shlex
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from drills.processes import Cluster, LinkProcess
from drills.waiting import wait_until


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


@pytest.fixture
def start_link(tmp_path: Path) -> Iterator[Callable[..., LinkProcess]]:
    """Return what starts links with folders and options of their own; all are killed at the end."""
    links: list[LinkProcess] = []

    def start(url: str, name: str = "link", *, wait: bool = True, journal: bool = True, **options: str) -> LinkProcess:
        link = LinkProcess(url, tmp_path / name, journal=journal, options=options)
        links.append(link)
        # A later run of the same name goes on in the same log.
        before = len(events(link, "listening"))
        link.start()
        if wait:
            wait_until(lambda: len(events(link, "listening")) > before, 20, "the link listens", 0.02)
        return link

    yield start
    for link in links:
        link.kill()
        print(f"--- {link.log.parent.name}", link.log.read_text()[-6000:])


def events(link: LinkProcess, name: str) -> list[dict[str, str]]:
    """Return the fields of the link's log lines of one event."""
    lines = [dict(word.split("=", 1) for word in shlex.split(line) if "=" in word) for line in _lines(link)]
    return [line for line in lines if line.get("event") == name]


def has_event(link: LinkProcess, name: str) -> bool:
    """Tell whether the link has logged an event."""
    return any(f" event={name} " in line for line in _lines(link))


def _lines(link: LinkProcess) -> list[str]:
    return link.log.read_text().splitlines() if link.log.exists() else []


def status(link: LinkProcess) -> dict[str, Any]:
    """Return what the link tells over HTTP."""
    with urllib.request.urlopen(f"http://127.0.0.1:{link.http_port}/status", timeout=5) as response:
        return cast("dict[str, Any]", json.load(response))
