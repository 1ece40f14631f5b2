"""Servers that refuse, cut off or are slow: what the link does with its connection to a real redis-server."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from drills.processes import LinkProcess, free_ports
from drills.waiting import wait_until

from .conftest import events, has_event, status

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


class SlowWay:
    """A way to a server that lets bytes through slowly; what comes back is fast."""

    def __init__(self, port: int, bytes_per_second: int) -> None:
        self._target = port
        self._rate = bytes_per_second
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            # A bigger one would take a whole write at once.
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            far = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pass, args=(near, far, self._rate), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, None), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket, rate: int | None) -> None:
        try:
            while data := source.recv(1 << 14):
                sink.sendall(data)
                if rate is not None:
                    time.sleep(len(data) / rate)
        except OSError:
            pass
        for side in (source, sink):
            side.close()

    def stop(self) -> None:
        self._listener.close()


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


@pytest.mark.parametrize("command", ["SET", "GETRANGE"])
def test_what_takes_longer_to_send_than_an_answer_may_take_is_sent_all_the_same(
    command: str, server: Server, start_link: StartLink
) -> None:
    way = SlowWay(server.port, 1 << 20)
    # Reads may take five times as long.
    timeout, value = ("0.5" if command == "SET" else "0.1"), b"x" * (4 << 20)
    link = start_link(way.url, LINK_RESPONSE_TIMEOUT=timeout)
    client(link).set("k", "v")
    began = time.monotonic()
    try:
        if command == "SET":
            assert client(link, 40).set("k", value)
        else:
            assert client(link, 40).execute_command("GETRANGE", value, 0, 1) == b""
        took = time.monotonic() - began
        assert took > float(timeout) * 5, f"it was sent within {took} s: the way is not slow enough to show anything"
        assert status(link)["handshakes"] == 1, "the connection was not given up"
        assert "reads_held" not in log(link)
        if command == "SET":
            assert server.admin.strlen("k") == len(value)
    finally:
        way.stop()


def test_a_full_journal_holds_nobody_up_while_every_node_has_what_is_in_it(
    server: Server, start_link: StartLink
) -> None:
    link = start_link(server.url, LINK_JOURNAL_MAX_BYTES=str(1 << 20))
    value = b"x" * 10_000

    def longest_write(count: int) -> float:
        writer, longest = client(link, 100), 0.0
        for number in range(count):
            began = time.monotonic()
            writer.set(f"k{number}", value)
            longest = max(longest, time.monotonic() - began)
        return longest

    # The bound is reached three times over.
    assert longest_write(320) < 2.5
    assert status(link)["forgotten_early"] > 200
    assert server.admin.dbsize() == 321, "every write and the marker"
    (warning,) = events(link, "journal_small")
    assert "LINK_JOURNAL_MAX_BYTES" in warning["msg"]
    assert not has_event(link, "journal_forgot")
    assert not has_event(link, "trouble"), "nothing is wrong"
    full = status(link)["journal"]
    assert full["bytes"] > full["max_bytes"] * 0.8, "no more is forgotten than has to be"
    link.kill()
    link.start()
    link.wait_until_ready()
    assert longest_write(120) < 2.5, "what is loaded is as old as it is"


def test_what_the_server_cannot_read_is_refused_before_it_is_accepted(server: Server, start_link: StartLink) -> None:
    server.admin.config_set("proto-max-bulk-len", 1 << 20)
    link = start_link(server.url)
    writer = client(link)
    with pytest.raises(ResponseError, match="invalid bulk length"):
        writer.set("k", b"x" * (2 << 20))
    with pytest.raises(ResponseError, match="invalid bulk length"):
        writer.get(b"x" * (2 << 20))
    assert writer.set("k", b"x" * (1 << 20))
    assert status(link)["handshakes"] == 1, "the connection of all clients was not lost for it"
    assert status(link)["accepted"] == 1


@pytest.mark.parametrize("megabytes", [2, 64])
def test_what_the_server_cannot_read_any_more_is_refused_once(
    megabytes: int, server: Server, start_link: StartLink
) -> None:
    link = start_link(server.url)
    # The small one is sent whole; while the big one is, the server resets the connection.
    assert client(link).set("k", 1)
    server.admin.config_set("proto-max-bulk-len", 1 << 20)
    with pytest.raises(ResponseError, match="invalid bulk length"):
        client(link).set("k", b"x" * (megabytes << 20))
    assert client(link).set("k", 2), "the others go on"
    assert status(link)["state"] == "ready"
    assert status(link)["handshakes"] < 5
    assert status(link)["refused"] == 1
    link.kill()
    link.start()
    link.wait_until_ready()
    assert client(link).set("k", 3), "nor is it in the way after a restart"


def test_a_server_that_closes_again_and_again_is_not_pressed_and_is_named(
    server: Server, start_link: StartLink
) -> None:
    link = start_link(server.url)
    assert client(link).set("k", 1)
    # Redis says nothing when this bound is exceeded: it only closes.
    server.admin.config_set("client-query-buffer-limit", 1 << 20)
    value = b"x" * (3 << 20)
    with pytest.raises(RedisTimeoutError):
        client(link, 0.5).set("k", value)
    wait_until(lambda: "each time as soon as it was connected" in status(link)["reason"], 20, "health tells it", 0.02)
    assert "lost " in log(link)
    began, before = time.monotonic(), status(link)["handshakes"]
    wait_until(lambda: status(link)["handshakes"] > before + 1, 20, "it tries again", 0.1)
    rate = (status(link)["handshakes"] - before) / (time.monotonic() - began)
    assert rate < 15, "not as fast as it can"
    server.admin.config_set("client-query-buffer-limit", 1 << 30)
    wait_until(lambda: server.admin.get("k") == value, 20, "as soon as the server takes it, it is applied", 0.1)
    wait_until(lambda: status(link)["healthy"], 20, "and all is well", 0.1)
