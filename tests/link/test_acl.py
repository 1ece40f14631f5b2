"""The ACL file of the nodes in a real Redis: what it keeps out, and that nothing is lost for it."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, ResponseError

from drills.processes import Process
from drills.waiting import wait_until
from trader_node.acl import acl_file

TRADER = "TRADER-001"
TRADERS = (TRADER, "TRADER-002")
USERS = ("admin", "health", "replica", "sentinel", "metrics", *TRADERS)
OWN_LIST = f"trader-{TRADER}:positions:P-1"
SERVER_WIDE = [
    "FLUSHDB",
    "FLUSHALL",
    "SWAPDB 0 1",
    "KEYS *",
    "RANDOMKEY",
    "DBSIZE",
    "CONFIG GET *",
    "CONFIG SET appendonly no",
    "ACL LIST",
    "ACL SETUSER x",
    "DEBUG SLEEP 0",
    "SHUTDOWN NOSAVE",
    "REPLICAOF NO ONE",
    "MONITOR",
    "CLIENT KILL TYPE normal",
    "CLIENT PAUSE 1000",
    "PUBLISH channel message",
    "SUBSCRIBE __sentinel__:hello",
    "EVAL 0 0",
    "SCRIPT FLUSH",
    "FUNCTION FLUSH",
    "MODULE LIST",
    "BGREWRITEAOF",
    "FAILOVER",
]
#: What one user could do if it had another one's rights.
OTHERS = {
    TRADER: [
        "PSYNC ? -1",
        "REPLCONF listening-port 1",
        "CLIENT LIST",
        "SLOWLOG GET",
        "RPUSH trader-TRADER-002:x 1",
        "GET trader-TRADER-002:x",
        "HSET trader-TRADER-002.link n 1",
        "SET trader-TRADER-0011:x 1",
        "SET other 1",
    ],
    "health": ["PSYNC ? -1", "GET x", "SCAN 0", "SET x 1", "CLIENT LIST", "SLOWLOG GET"],
    "replica": ["INFO", "GET x", "SCAN 0", "SET x 1", "CLIENT LIST", "SLOWLOG GET"],
    "metrics": ["PSYNC ? -1", "REPLCONF listening-port 1", "GET x", "SCAN 0", "SET x 1", "SLAVEOF NO ONE"],
}


def _write_acl_file(folder: Path) -> Path:
    path = folder / "users.acl"
    hashes = {user: [hashlib.sha256(f"{user}'s".encode()).hexdigest()] for user in USERS}
    path.write_text(acl_file("nodes", TRADERS, hashes))
    return path


@pytest.fixture
def start(tmp_path: Path, free_port: int) -> Iterator[Callable[[], Process]]:
    """Start a server with the users, as often as wanted, always on the same disk."""
    started: list[Process] = []
    acl = _write_acl_file(tmp_path)

    def start() -> Process:
        # Always: while an fsync takes its time, `everysec` answers before it writes.
        options = f"--port {free_port} --dir {tmp_path} --appendonly yes --appendfsync always --aclfile {acl}".split()
        process = Process(["redis-server", *options], tmp_path / "log")
        process.start()
        started.append(process)
        wait_until(lambda: _as("admin", free_port).ping(), 20, "the server answers", 0.05)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _as(user: str, port: int) -> Redis:
    return Redis(port=port, username=user, password=f"{user}'s", decode_responses=True)


def test_transactions_are_still_there_after_a_restart(start: Callable[[], Process], free_port: int) -> None:
    """Redis loads an AOF as the user ``default``, and leaves out the transactions that it may not carry out."""
    server = start()
    client = _as(TRADER, free_port)
    for fill in range(3):
        client.pipeline().rpush(OWN_LIST, fill).hset(f"trader-{TRADER}.link", "seq", fill).execute()
    server.kill()
    start()
    client = _as(TRADER, free_port)
    assert client.lrange(OWN_LIST, 0, -1) == ["0", "1", "2"]
    assert client.hget(f"trader-{TRADER}.link", "seq") == "2"
    assert _as("admin", free_port).acl_log() == []


def test_nobody_gets_in_without_a_login(start: Callable[[], Process], free_port: int) -> None:
    start()
    for password in ("", "default's"):
        with pytest.raises(AuthenticationError):
            Redis(port=free_port, username="default", password=password).ping()
    with pytest.raises(AuthenticationError):
        Redis(port=free_port).ping()
    with pytest.raises(AuthenticationError):
        Redis(port=free_port).flushall()


def test_nobody_may_do_more_than_its_work(start: Callable[[], Process], free_port: int) -> None:
    start()
    admin = _as("admin", free_port)
    for user, commands in OTHERS.items():
        for command in SERVER_WIDE + commands:
            try:
                verdict = admin.execute_command("ACL", "DRYRUN", user, *command.split())
            except ResponseError as error:
                pytest.fail(f"{command} cannot be tried: {error}")
            assert "no permissions" in str(verdict), f"{user} may {command}: {verdict}"
    # The dry run tells of what is allowed, too.
    assert admin.execute_command("ACL", "DRYRUN", TRADER, "RPUSH", OWN_LIST, "1") == "OK"
