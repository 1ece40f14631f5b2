"""Servers that refuse, cut off or are slow: what the link does with its connection to a real redis-server."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from drills.processes import LinkProcess, free_ports
from drills.waiting import wait_until

from .conftest import status

StartLink = Callable[..., LinkProcess]


class Server:
    """One redis-server without replicas or Sentinels."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}"
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.admin = Redis("127.0.0.1", self.port)
        wait_until(self._answers, 20, "the server answers", 0.05)

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except RedisError:
            return False

    def stop(self) -> None:
        self.admin.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def client(link: LinkProcess, timeout: float = 20.0) -> Redis:
    return Redis("127.0.0.1", link.port, socket_timeout=timeout, retry=Retry(NoBackoff(), 0), protocol=2)


def log(link: LinkProcess) -> str:
    return link.log.read_text()


def test_what_a_server_says_before_it_is_asked_reaches_log_and_health(server: Server, start_link: StartLink) -> None:
    server.admin.config_set("maxclients", 10)
    with ExitStack() as held:
        for _ in range(9):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        wait_until(lambda: len(server.admin.client_list()) == 10, 10, "there is no place left", 0.05)
        link = start_link(server.url)
        says = f"127.0.0.1:{server.port}: ERR max number of clients reached"
        wait_until(lambda: says in status(link)["reason"], 10, "health tells why there is no master", 0.05)
        assert not status(link)["healthy"]
        assert says in log(link)
        before = server.admin.info("stats")["rejected_connections"]
        wait_until(lambda: server.admin.info("stats")["rejected_connections"] >= before + 2, 10, "it tries again", 0.2)
    assert client(link).set("k", "v"), "it connects as soon as there is a place again"
    assert "Traceback" not in log(link)
    assert status(link)["healthy"]
