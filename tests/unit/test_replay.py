"""Every write command of a real server: it does the same to the same data wherever and whenever it runs.

Two servers get the same data. Each runs, inside MULTI and EXEC, what the journal would hold of the command. Then both
must hold the same data again, and have said the same. Only SPOP is not among them: it never becomes an entry.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drills.processes import free_ports
from drills.waiting import wait_until
from trader_node.link import wire
from trader_node.link.allowance import Allowance
from trader_node.link.blocking import BLOCKING_WRITES
from trader_node.link.commands import Arguments, Kind, StreamIds, classify
from trader_node.link.scripts import ScriptMode

LIBRARY = "#!lua name=lib\nredis.register_function('put', function(k, a) return redis.call('SET', k[1], a[1]) end)"

BASE = """
SET str 5
SET other 2.5
SET text hello
SETBIT bits 7 1
HSET hash a 1 b 2.5
RPUSH list 1 2 3 1 2
RPUSH list2 9
SADD set 1 2 3 4 5 6 7 8
SADD set2 3 4 x
ZADD zset 1 a 2 b 3 c
ZADD zset2 1 a 5 d
GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
PFADD hll a b c
PFADD hll2 c d
XADD stream 1-1 f v
XADD stream 2-1 f v
XADD stream 3-1 f v
XADD stream 4-1 f v
XADD stream 5-1 f v
XGROUP CREATE stream group 0
XREADGROUP GROUP group alice COUNT 4 STREAMS stream >
XDEL stream 2-1
EXPIREAT text 9999999999
"""

#: At least one of each write command of Redis 7.0 that the link takes.
SAMPLES = """
APPEND str x
BITFIELD bits SET u8 0 255 INCRBY i5 100 1
BITOP XOR str text bits
BLMOVE list list2 LEFT RIGHT 0
BLMPOP 0 2 nokey list LEFT COUNT 2
BLPOP nokey list 0
BRPOP list 0
BRPOPLPUSH list list2 0
BZMPOP 0 1 zset MAX
BZPOPMAX zset 0
BZPOPMIN zset 0
COPY hash copy
COPY hash str REPLACE
DECR str
DECRBY str 3
DEL str hash
EXPIRE str 1000
EXPIRE str -1
EXPIRE text 5 NX
EXPIREAT str 9999999999
FLUSHALL
FLUSHDB ASYNC
GEOADD geo 2.3 48.8 Paris
GEORADIUS geo 15 37 200 km STORE stored
GEORADIUSBYMEMBER geo Palermo 200 km STOREDIST stored
GEOSEARCHSTORE stored geo FROMLONLAT 15 37 BYRADIUS 200 km
GETDEL str
GETEX str EX 1000
GETEX text PERSIST
GETSET str 7
HDEL hash a
HINCRBY hash a 5
HINCRBYFLOAT hash b 0.1
HINCRBYFLOAT hash new 1e2
HMSET hash c 3
HSET hash c 3
HSETNX hash c 3
INCR str
INCRBY str 3
INCRBYFLOAT other 0.1
INCRBYFLOAT nokey 1.5
LINSERT list BEFORE 2 x
LMOVE list list2 RIGHT LEFT
LMPOP 1 list LEFT COUNT 2
LPOP list 2
LPUSH list x
LPUSHX list x
LREM list 1 2
LSET list 0 x
LTRIM list 1 2
MOVE str 1
MSET str a new b
MSETNX new1 a new2 b
PERSIST text
PEXPIRE str 100000
PEXPIREAT str 9999999999999
PFADD hll z
PFMERGE hll hll2
PSETEX str 100000 v
RENAME str new
RENAMENX str new
RPOP list
RPOPLPUSH list list2
RPUSH list x
RPUSHX list x
SADD set x
SDIFFSTORE stored set set2
SET str v EX 1000 GET
SET text v KEEPTTL
SETBIT bits 3 1
SETEX str 1000 v
SETNX new v
SETRANGE str 3 x
SINTERSTORE stored set set2
SMOVE set set2 1
SORT set BY nosort STORE stored
SORT list DESC STORE stored
SORT list BY w_* STORE stored
SREM set 1
SUNIONSTORE stored set set2
UNLINK str
XACK stream group 1-1
XADD stream * f v
XADD stream 9-* f v
XADD stream MAXLEN ~ 2 * f v
XAUTOCLAIM stream group bob 0 0
XAUTOCLAIM stream group bob 0 0 COUNT 2 JUSTID
XAUTOCLAIM stream nogroup bob 0 0
XCLAIM stream group bob 0 1-1 2-1 3
XCLAIM stream group bob 0 3-1 5-1 JUSTID
XCLAIM stream group bob 0 1-1 5-1 FORCE RETRYCOUNT 7 LASTID 5-1
XCLAIM stream group bob 0 1-1 1-1 IDLE 500
XCLAIM stream nogroup bob 0 1-1
XDEL stream 1-1
XGROUP CREATE stream new $
XGROUP CREATECONSUMER stream group carol
XGROUP DELCONSUMER stream group alice
XGROUP DESTROY stream group
XGROUP SETID stream group $
XREADGROUP GROUP group bob STREAMS stream >
XREADGROUP GROUP group bob BLOCK 0 STREAMS stream >
XREADGROUP GROUP group bob NOACK STREAMS stream >
XSETID stream 99-1
XTRIM stream MAXLEN ~ 2
XTRIM stream MINID ~ 4 LIMIT 1
ZADD zset GT CH 5 a
ZADD zset INCR 0.1 a
ZDIFFSTORE stored 2 zset zset2
ZINCRBY zset 0.1 a
ZINTERSTORE stored 2 zset zset2
ZMPOP 2 nokey zset MIN COUNT 2
ZPOPMAX zset 2
ZPOPMIN zset
ZRANGESTORE stored zset 0 1
ZREM zset a
ZREMRANGEBYLEX zset [a [b
ZREMRANGEBYRANK zset 0 0
ZREMRANGEBYSCORE zset 1 2
ZUNIONSTORE stored 3 zset zset2 set WEIGHTS 0.1 0.2 0.3
EVAL return+redis.call('RPUSH',KEYS[1],ARGV[1]) 1 list x
FCALL put 1 str v
""".strip().splitlines()
#: What the link refuses or does not know, and why is in the refusal.
REFUSED = {"migrate", "pfdebug", "restore-asking", "swapdb"}


class Server:
    """A redis-server, spoken to in raw RESP."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        folder.mkdir()
        arguments = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        # Nodes that hold few entries each, so that approximate trimming would not be exact trimming by chance.
        arguments += ["--enable-debug-command", "local", "--stream-node-max-entries", "3"]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
        self._framer = wire.ReplyFramer()
        wait_until(lambda: socket.create_connection(("127.0.0.1", port), 1).close() or True, 10, "it listens", 0.02)
        self._socket = socket.create_connection(("127.0.0.1", port), 10)

    def run(self, *arguments: str | bytes) -> bytes:
        """Run a command; return the reply as it comes."""
        self._socket.sendall(wire.encode_command(*arguments))
        while (reply := self._framer.next()) is None:
            self._framer.feed(self._socket.recv(1 << 16))
        return reply

    def run_as_entry(self, commands: tuple[Arguments, ...]) -> list[bytes]:
        """Run commands as the link sends entries: inside MULTI and EXEC."""
        self.run("MULTI")
        for command in commands:
            assert self.run(*command) == wire.QUEUED, command
        return wire.split_array(self.run("EXEC")) or []

    def load(self) -> None:
        """Go back to the same data."""
        self.run("FLUSHALL")
        self.run("FUNCTION", "FLUSH")
        self.run("FUNCTION", "LOAD", LIBRARY)
        for line in BASE.strip().splitlines():
            assert not wire.is_error(self.run(*line.split())), line

    def state(self) -> tuple[object, ...]:
        """Return everything that it holds, except how long messages of consumer groups have been idle."""
        # The digest leaves consumer groups out, and 7.0 keeps it of what is in other databases, too.
        streams: Any = wire.decode(self.run("XINFO", "STREAM", "stream", "FULL"))
        return wire.decode(self.run("DEBUG", "DIGEST")), _plain(streams), self.run("FUNCTION", "LIST")

    def stop(self) -> None:
        self._socket.close()
        self.process.kill()
        self.process.wait()


def _plain(value: Any) -> Any:
    """Leave out delivery and seen times, and how a stream lies in memory."""
    if not isinstance(value, list):
        return str(value) if isinstance(value, Exception) else value
    plain = []
    for index, each in enumerate(value):
        if index and value[index - 1] in (b"seen-time", b"radix-tree-keys", b"radix-tree-nodes"):
            continue
        if isinstance(each, int) and each > 10**12:
            continue
        plain.append(_plain(each))
    return plain


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is not on PATH: run ./scripts/test, whose image has it")
    folder = tmp_path_factory.mktemp("servers")
    first, second = Server(folder / "first"), Server(folder / "second")
    try:
        yield first, second
    finally:
        first.stop()
        second.stop()


def _words(line: str) -> Arguments:
    return tuple(word.replace("+", " ").encode() for word in line.split(" "))


def _replayed(servers: tuple[Server, Server], arguments: Arguments, now_ms: int) -> Kind:
    """Run a command at the first server and what the journal would hold at the second; compare their data."""
    first, second = servers
    for server in servers:
        server.load()
    before = first.state()
    assert before == second.state()
    verdict = classify(arguments, now_ms, StreamIds(), Allowance(ScriptMode.DETERMINISTIC))
    sent = verdict.arguments if verdict.kind is Kind.WRITE else arguments
    (reply,) = first.run_as_entry((sent,))
    (again,) = second.run_as_entry((sent,))
    assert first.state() == second.state()
    if wire.is_error(reply):
        assert first.state() == before
    # The reply does not depend on the server either, except for the order of a set.
    assert sorted(again) == sorted(reply)
    return verdict.kind


@pytest.mark.parametrize("line", SAMPLES)
def test_a_replay_does_the_same(servers: tuple[Server, Server], line: str) -> None:
    assert _replayed(servers, _words(line), time.time_ns() // 1_000_000) in (Kind.WRITE, Kind.BLOCKING_WRITE)


def test_a_replay_of_restore_does_the_same(servers: tuple[Server, Server]) -> None:
    servers[0].load()
    dumped = wire.decode(servers[0].run("DUMP", "list"))
    assert isinstance(dumped, bytes)
    _replayed(servers, (b"RESTORE", b"str", b"100000", dumped, b"REPLACE"), time.time_ns() // 1_000_000)


def test_every_write_command_of_the_server_has_a_sample(servers: tuple[Server, Server]) -> None:
    reply: Any = wire.decode(servers[0].run("COMMAND", "LIST", "FILTERBY", "ACLCAT", "write"))
    known = {name.decode().partition("|")[0] for name in reply}
    assert len(known) > 90
    sampled = {line.split()[0].lower() for line in SAMPLES} | {"restore", "function", "spop"}
    assert known - sampled - REFUSED == set()
    for name in REFUSED:
        assert classify((name.encode(), b"a", b"b"), 0, StreamIds()).kind is Kind.REFUSED
    assert {name.lower().decode() for name in BLOCKING_WRITES} <= sampled


@pytest.mark.parametrize("command", ["INCRBYFLOAT text 1", "INCRBYFLOAT list 1", "HINCRBYFLOAT hash b x"])
def test_an_error_changes_nothing(servers: tuple[Server, Server], command: str) -> None:
    _replayed(servers, _words(command), 0)


def test_a_command_that_waits_never_blocks_inside_an_entry(servers: tuple[Server, Server]) -> None:
    first, _ = servers
    first.load()
    began = time.monotonic()
    for line in ("BLPOP nokey 0", "BZMPOP 0 1 nokey MIN", "BLMOVE nokey list LEFT LEFT 0", "XREAD BLOCK 0 STREAMS s $"):
        assert first.run_as_entry((_words(line),)) in ([wire.NIL_ARRAY], [b"$-1\r\n"])
    assert time.monotonic() - began < 5
