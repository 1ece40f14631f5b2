"""Ordinary clients through the link: what they do with Redis, they do with the link, also while the master changes."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import LockError, NoScriptError, ResponseError
from redis.retry import Retry

from drills.processes import Cluster, LinkProcess, free_ports, freeze, thaw
from drills.waiting import wait_until

from .conftest import status

SCRIPTS = {"LINK_SCRIPTS": "deterministic", "LINK_AT_MOST_ONCE": "HINCRBY"}


class Stage:
    """A cluster, and a link in front of it that lets scripts pass."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Cluster(folder / "cluster")
        self.cluster.start()
        self.link = LinkProcess(self.cluster.url, folder / "link", options=SCRIPTS)
        self.link.start()
        wait_until(lambda: self.client().ping(), 20, "the link answers", 0.02)

    def client(self, **options: Any) -> Redis:
        """Return a client of the link that tries nothing twice: what fails, fails."""
        settings = {"decode_responses": True, "protocol": 2, "socket_timeout": 30, "retry": Retry(NoBackoff(), 0)}
        return Redis("127.0.0.1", self.link.port, **{**settings, **options})

    def master(self) -> Redis:
        """Return a client of the master itself."""
        return self.cluster.client(self.cluster.master())

    def fail_over(self) -> None:
        """Kill the master, wait for another one and bring the old one back as a replica."""
        master = self.cluster.master()
        self.cluster.nodes[master].kill()
        self.cluster.wait_for_other_master(master)
        self.cluster.nodes[master].start()

    def stop(self) -> None:
        self.link.kill()
        print(self.link.log.read_text()[-6000:])
        self.cluster.stop()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("clients"))
    try:
        yield stage
    finally:
        stage.stop()


@pytest.fixture
def client(stage: Stage) -> Iterator[Redis]:
    """Return a client of an empty data set."""
    stage.cluster.wait_until_whole()
    with stage.client() as client:
        client.flushall()
        yield client


def _command(stage: Stage, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        [arguments[0], "-p", str(stage.link.port), *arguments[1:]],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower(), done.stderr
    return done.stdout


def _applied(write: Callable[[], Any]) -> Any:
    """Return the reply to a write, or None where the link says that it was applied and its answer lost."""
    try:
        return write()
    except ResponseError as error:
        if "applied exactly once, but its answer was lost" not in str(error):
            raise
        return None


# --- redis-py --------------------------------------------------------------------------------------------------------


def test_data_types(stage: Stage, client: Redis) -> None:
    client.set("string", "1", ex=100)
    client.incrbyfloat("string", 0.5)
    client.hset("hash", mapping={"a": "1", "b": "2"})
    client.hincrbyfloat("hash", "a", 0.25)
    client.sadd("set", "x")
    client.zadd("zset", {"m": 1.5})
    client.rpush("list", "1", "2", "3")
    client.xadd("stream", {"f": "v"}, maxlen=10)
    client.geoadd("geo", (13.361389, 38.115556, "Palermo"))
    client.pfadd("hll", "a", "b")
    client.setbit("bits", 7, 1)
    master = stage.master()
    assert master.get("string") == "1.5"
    assert 90 < master.ttl("string") <= 100
    assert master.hgetall("hash") == {"a": "1.25", "b": "2"}
    assert client.lrange("list", 0, -1) == ["1", "2", "3"]
    assert client.xlen("stream") == client.scard("set") == client.zcard("zset") == 1
    assert client.pfcount("hll") == 2
    assert client.getbit("bits", 7) == 1
    assert client.geodist("geo", "Palermo", "Palermo") == 0
    assert sorted(client.scan_iter()) == sorted(master.keys())


def test_pipelines_and_transactions(client: Redis) -> None:
    for transaction in (False, True):
        with client.pipeline(transaction=transaction) as pipeline:
            for number in range(100):
                pipeline.rpush("list", number)
            pipeline.lrange("list", 0, 1)
            pipeline.set("expiring", "x", ex=50)
            pipeline.echo("hello")
            *lengths, found, ok, echoed = pipeline.execute()
        assert found == ["0", "1"]
        assert (ok, echoed) == (True, "hello")
        assert lengths[-1] == client.llen("list")
    assert client.llen("list") == 200


def test_an_error_in_a_transaction_reaches_its_command(client: Redis) -> None:
    client.set("string", "x")
    with client.pipeline() as pipeline:
        pipeline.lpush("string", "x").set("other", "1")
        error, ok = pipeline.execute(raise_on_error=False)
    assert isinstance(error, ResponseError)
    assert ok is True


def test_watch_is_refused_with_the_reason(client: Redis) -> None:
    with pytest.raises(ResponseError, match="WATCH is not available through the link"):
        client.transaction(lambda pipeline: pipeline.set("a", "1"), "a")


def test_resp3_is_refused_as_redis_before_6_does(stage: Stage) -> None:
    with pytest.raises((RedisConnectionError, ResponseError), match=r"(?i)noproto|unsupported protocol"):
        stage.client(protocol=3).ping()


def test_tracking_is_refused(client: Redis) -> None:
    with pytest.raises(ResponseError, match="CLIENT TRACKING is not available"):
        client.execute_command("CLIENT", "TRACKING", "ON")


def test_databases(stage: Stage, client: Redis) -> None:
    stage.client(db=3).set("key", "three")
    client.set("key", "zero")
    assert (stage.client(db=3).get("key"), client.get("key")) == ("three", "zero")
    assert stage.cluster.client(stage.cluster.master()).execute_command("DBSIZE") >= 1


def test_client_commands(stage: Stage, client: Redis) -> None:
    client.client_setname("me")
    other = stage.client(client_name="other")
    other.ping()
    listed = {each["name"]: each for each in client.client_list()}
    assert {"me", "other"} <= set(listed)
    assert client.client_info()["name"] == "me"
    assert client.client_kill_filter(_id=listed["other"]["id"]) == 1
    wait_until(lambda: listed["other"]["id"] not in {each["id"] for each in client.client_list()}, 5, "it is gone")


def test_scripts_and_locks(client: Redis) -> None:
    increase = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert increase(keys=["counter"], args=[5]) == 5
    with client.pipeline() as pipeline:
        increase(keys=["counter"], args=[2], client=pipeline)
        pipeline.get("counter")
        assert pipeline.execute() == [7, "7"]
    assert client.script_exists(increase.sha, "0" * 40) == [True, False]
    with pytest.raises(NoScriptError):
        client.evalsha("f" * 40, 0)
    lock = client.lock("lock", timeout=10)
    assert lock.acquire()
    assert not client.lock("lock", timeout=10, blocking=False).acquire()
    lock.extend(10)
    lock.release()
    with pytest.raises(LockError):
        lock.release()
    client.function_load("#!lua name=mine\nredis.register_function('twice', function(k, a) return a[1] * 2 end)")
    assert client.fcall("twice", 0, 21) == 42
    client.script_flush()
    assert increase(keys=["counter"], args=[1]) == 8


def test_scripts_survive_a_failover(stage: Stage, client: Redis) -> None:
    push = client.register_script("return redis.call('RPUSH', KEYS[1], ARGV[1])")
    assert push(keys=["list"], args=[0]) == 1
    stop = threading.Event()

    def pushes() -> int:
        number = 0
        with stage.client() as own:
            while not stop.is_set():
                number += 1
                _applied(partial(push, keys=["list"], args=[number], client=own))
        return number

    with ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(pushes)
        wait_until(lambda: client.llen("list") > 50, 20, "traffic", 0.01)
        stage.fail_over()
        before = client.llen("list")
        wait_until(lambda: client.llen("list") > before + 50, 20, "traffic", 0.01)
        stop.set()
        last = pushed.result(30)
    assert client.lrange("list", 0, -1) == [str(number) for number in range(last + 1)]


def test_at_most_once(client: Redis) -> None:
    assert client.hincrby("hash", "field", 5) == 5
    with client.pipeline() as pipeline, pytest.raises(ResponseError, match="at most once"):
        pipeline.hincrby("hash", "field", 1).execute()
    assert client.hget("hash", "field") == "5"


def test_what_was_popped_at_random_stays_popped_when_a_lagging_replica_is_promoted(stage: Stage, client: Redis) -> None:
    client.sadd("set", *range(500))
    master = stage.cluster.master()
    replicas = [node for port, node in stage.cluster.nodes.items() if port != master]
    copies = [stage.cluster.client(port) for port in stage.cluster.node_ports]
    wait_until(lambda: all(copy.scard("set") == 500 for copy in copies), 10, "the replicas have it")
    for replica in replicas:
        freeze(replica)
    # Or the kernel would keep for them what they do not read.
    stage.master().execute_command("CLIENT", "KILL", "TYPE", "replica")
    popped = [client.spop("set") for _ in range(50)] + list(client.spop("set", 50))
    stage.cluster.nodes[master].kill()
    for replica in replicas:
        thaw(replica)
    stage.cluster.wait_for_other_master(master)
    left = client.smembers("set")
    stage.cluster.nodes[master].start()
    assert set(popped) | set(left) == {str(number) for number in range(500)}
    assert len(popped) + len(left) == 500
    assert status(stage.link)["replayed"] >= 51, "nothing was replayed: the promoted replica did not lag"


# --- blocking --------------------------------------------------------------------------------------------------------


def test_workers_take_every_job_once_and_in_order_through_a_failover(stage: Stage, client: Redis) -> None:
    taken: list[int] = []
    lost_answers: list[int] = []

    def work() -> None:
        with stage.client() as worker:
            while True:
                job = _applied(partial(worker.blpop, ["jobs", "more"], timeout=0))
                if job is None:
                    lost_answers.append(len(taken))
                elif job[1] == "end":
                    return
                else:
                    taken.append(int(job[1]))

    stop = threading.Event()

    def produce() -> int:
        number = 0
        with stage.client() as producer:
            while not stop.is_set():
                _applied(partial(producer.rpush, "jobs", number))
                number += 1
            producer.rpush("jobs", "end")
        return number

    with ThreadPoolExecutor(2) as pool:
        worker = pool.submit(work)
        produced = pool.submit(produce)
        try:
            wait_until(lambda: len(taken) > 100, 20, "jobs are taken", 0.01)
            stage.fail_over()
            before = len(taken)
            wait_until(lambda: len(taken) > before + 100, 20, "jobs are taken", 0.01)
        finally:
            stop.set()
        count = produced.result(30)
        worker.result(30)
    # A job whose answer was lost was taken all the same, and its worker was told.
    assert taken == sorted(set(taken))
    assert count - len(taken) == len(lost_answers) <= 1
    assert client.llen("jobs") == 0


def _waiting(client: Redis) -> bool:
    blocking = ("blpop", "brpop", "blm", "bz", "xread")
    return any(each["cmd"].startswith(blocking) for each in client.client_list())


@pytest.mark.parametrize(
    ("wait", "push", "expected"),
    [
        (lambda c: c.blpop("k", 5), lambda c: c.rpush("k", "a"), ("k", "a")),
        (lambda c: c.brpop(["x", "k"], 5), lambda c: c.rpush("k", "a"), ("k", "a")),
        (lambda c: c.blmove("k", "d", 5), lambda c: c.rpush("k", "a"), "a"),
        (lambda c: c.brpoplpush("k", "d", 5), lambda c: c.rpush("k", "a"), "a"),
        (lambda c: c.blmpop(5, 2, "x", "k", direction="LEFT"), lambda c: c.rpush("k", "a"), ["k", ["a"]]),
        (lambda c: c.bzpopmin("k", 5), lambda c: c.zadd("k", {"a": 1}), ("k", "a", 1.0)),
        (lambda c: c.bzmpop(5, 1, ["k"], max=True), lambda c: c.zadd("k", {"a": 1}), ["k", [["a", "1"]]]),
        (lambda c: c.xread({"k": "$"}, block=5000), lambda c: c.xadd("k", {"f": "v"}, "5-1"), "stream"),
        (lambda c: c.xreadgroup("g", "c", {"s": ">"}, block=5000), lambda c: c.xadd("s", {"f": "v"}, "5-1"), "stream"),
    ],
)
@pytest.mark.parametrize("direct", [False, True], ids=["pushed through the link", "pushed at the master"])
def test_a_blocked_client_gets_what_is_pushed(
    stage: Stage, client: Redis, wait: Any, push: Any, expected: Any, direct: bool
) -> None:
    client.xgroup_create("s", "g", "$", mkstream=True)
    with stage.client() as waiter, ThreadPoolExecutor(1) as pool:
        result = pool.submit(wait, waiter)
        wait_until(lambda: _waiting(client), 5, "it waits", 0.01)
        assert not result.done()
        began = time.monotonic()
        push(stage.master() if direct else client)
        found = result.result(5)
        assert time.monotonic() - began < 2
    if expected == "stream":
        assert found[0][1] == [("5-1", {"f": "v"})]
    else:
        assert found == expected


def test_a_wait_ends_in_time(client: Redis) -> None:
    began = time.monotonic()
    assert client.blpop("nothing", timeout=0.3) is None
    assert client.xread({"nothing": "$"}, block=300) == []
    assert 0.6 <= time.monotonic() - began < 5


def test_a_blocked_stream_read_survives_a_failover(stage: Stage, client: Redis) -> None:
    client.xadd("stream", {"n": "0"}, "1-0")
    with stage.client() as reader, ThreadPoolExecutor(1) as pool:
        found = pool.submit(reader.xread, {"stream": "$"}, block=0)
        wait_until(lambda: _waiting(client), 5, "it waits", 0.01)
        stage.fail_over()
        assert not found.done()
        client.xadd("stream", {"n": "1"}, "2-0")
        assert found.result(20) == [["stream", [("2-0", {"n": "1"})]]]


# --- pub/sub ---------------------------------------------------------------------------------------------------------


def test_subscribers_do_not_notice_a_failover(stage: Stage, client: Redis) -> None:
    with stage.client() as own, own.pubsub() as pubsub:
        pubsub.subscribe("news")
        pubsub.psubscribe("p*")
        assert [pubsub.get_message(timeout=5)["data"] for _ in range(2)] == [1, 2]
        client.publish("news", "before")
        assert pubsub.get_message(timeout=5)["data"] == "before"
        connection = pubsub.connection
        stage.fail_over()

        def arrives() -> bool:
            client.publish("pattern", "after")
            message = pubsub.get_message(timeout=0.2)
            return message is not None and message["data"] == "after"

        wait_until(arrives, 20, "a message after the failover", 0.05)
        assert pubsub.connection is connection
        pubsub.ping()
        wait_until(lambda: (pubsub.get_message(timeout=1) or {}).get("type") == "pong", 5, "pong", 0.01)
        pubsub.unsubscribe("news")
        wait_until(lambda: (pubsub.get_message(timeout=1) or {}).get("type") == "unsubscribe", 5, "unsubscribed", 0.01)


def test_asyncio(stage: Stage, client: Redis) -> None:
    async def talk() -> None:
        own = redis.asyncio.Redis(port=stage.link.port, decode_responses=True, protocol=2)
        async with own, own.pubsub() as pubsub:
            await pubsub.subscribe("news")
            assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
            await asyncio.gather(*(own.rpush("list", number) for number in range(50)))
            async with own.pipeline(transaction=True) as pipeline:
                results = await pipeline.llen("list").set("a", "1", px=9000).execute()
            assert results == [50, True]
            popped, _ = await asyncio.gather(own.blpop("queue", 5), own.rpush("queue", "x"))
            assert tuple(popped) == ("queue", "x")
            failover = asyncio.to_thread(stage.fail_over)
            counts = (own.incr("counter") for _ in range(20))
            fault, *answers = await asyncio.gather(failover, *counts, return_exceptions=True)
            assert fault is None, fault
            # Of one that is in flight at the failover the answer may be lost, and the link says that it was applied.
            lost = [answer for answer in answers if not isinstance(answer, int)]
            assert all(str(answer).startswith("UNKNOWN link: the command was applied") for answer in lost), lost
            assert await own.get("counter") == "20"
            while True:
                await own.publish("news", "after")
                message = await pubsub.get_message(timeout=0.2)
                if message is not None:
                    break
            assert message["data"] == "after"

    asyncio.run(asyncio.wait_for(talk(), 60))


# --- Redis' own tools ------------------------------------------------------------------------------------------------


def test_redis_cli(stage: Stage, client: Redis) -> None:
    assert _command(stage, "redis-cli", "SET", "key", "value") == "OK\n"
    assert "key" in _command(stage, "redis-cli", "--scan").split()
    client.xadd("stream", {"f": "v"})
    assert "stream" in _command(stage, "redis-cli", "--bigkeys")
    typed = 'GET key\nCLIENT ID\nHELLO 2\nSET other "two words"\nGET other\n'
    assert "two words" in _command(stage, "redis-cli", stdin=typed)
    assert "summary" in _command(stage, "redis-cli", "COMMAND", "DOCS", "get")
    mass = "".join(f"*3\r\n$5\r\nRPUSH\r\n$4\r\nmass\r\n$1\r\n{number % 10}\r\n" for number in range(1000))
    assert "errors: 0, replies: 1000" in _command(stage, "redis-cli", "--pipe", stdin=mass)
    assert client.llen("mass") == 1000


@pytest.mark.parametrize("pipeline", [1, 16])
def test_redis_benchmark_with_all_its_tests(stage: Stage, client: Redis, pipeline: int) -> None:
    told = _command(stage, "redis-benchmark", "-n", "200", "-c", "10", "-P", str(pipeline), "-q")
    finished = [
        line.split(":")[0].strip() for line in told.replace("\r", "\n").splitlines() if "requests per second" in line
    ]
    assert len(finished) >= 20, told
    assert "PING_INLINE" in finished
    assert "SPOP" in finished
    assert "ERR" not in told


@pytest.mark.parametrize("name", ["EXISTS", "FLUSHALL", "CONFIG", "NONSENSE"])
def test_a_pointless_name_in_the_setting_is_a_clear_mistake(tmp_path: Path, name: str) -> None:
    (port,) = free_ports(1)
    link = LinkProcess(f"redis://127.0.0.1:{port}", tmp_path, options={"LINK_AT_MOST_ONCE": f"EVAL,{name}"})
    link.start()
    wait_until(lambda: not link.running, 20, "the link has given up")
    assert link.terminate() == 2
    lines = link.log.read_text().splitlines()
    assert len(lines) == 1
    assert "LINK_AT_MOST_ONCE" in lines[0]
    assert name in lines[0]
