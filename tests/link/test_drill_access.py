"""What the drills read with, against a real server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as Cut

from drills.processes import Cluster
from drills.records import read_everything
from drills.redis_access import RedisAccess
from drills.waiting import wait_until


def test_everything_is_read_whatever_its_type(cluster: Cluster) -> None:
    server = cluster.client(cluster.master())
    wanted: dict[bytes, object] = {}
    for number in range(250):
        key = f"trader-T-1:orders:{number}"
        server.rpush(key, "initialized", "filled")
        wanted[key.encode()] = [b"initialized", b"filled"]
    server.sadd("trader-T-1:index:orders", "O-1")
    server.hset("trader-T-1:index:order_client", "O-1", "SIM")
    server.set("trader-T-1:heartbeat", "now")
    server.set("trader-T-2:heartbeat", "of another")
    entry = server.xadd("trader-T-1:stream", {"payload": "quote"})
    wanted |= {
        b"trader-T-1:index:orders": {b"O-1"},
        b"trader-T-1:index:order_client": {b"O-1": b"SIM"},
        b"trader-T-1:heartbeat": b"now",
        b"trader-T-1:stream": [(str(entry).encode(), {b"payload": b"quote"})],
    }
    reader = RedisAccess({"redis-1": ("127.0.0.1", cluster.master())}).client("redis-1", decode=False, persists=True)
    assert read_everything(reader, "trader-T-1:*") == wanted


def test_who_persists_asks_again_when_a_sentinel_ends_all_connections(cluster: Cluster) -> None:
    server = cluster.client(cluster.master())
    access = RedisAccess({"redis-1": ("127.0.0.1", cluster.master())})

    def waiting() -> int:
        return sum(client["cmd"] == "blpop" for client in server.client_list())

    def ask(client: Redis) -> object:
        return client.blpop(["answers"], 0)

    with ThreadPoolExecutor(2) as threads:
        persists = threads.submit(ask, access.client("redis-1", 20.0, persists=True))
        asks_once = threads.submit(ask, access.client("redis-1", 20.0))
        wait_until(lambda: waiting() == 2, 10, "both wait for their answer", 0.02)
        server.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(Cut):
            asks_once.result(10)
        wait_until(lambda: waiting() == 1, 10, "one asks again", 0.02)
        server.rpush("answers", "42")
        assert persists.result(10) == ("answers", "42")
