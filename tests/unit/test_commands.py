"""What each command is to the link, and what is pinned before it is journalled."""

from __future__ import annotations

import itertools
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from trader_node.link.commands import Kind, StreamIds, Verdict, certain_reply, classify
from trader_node.link.wire import OK

NOW = 1_700_000_000_000


def verdict(text: str, ids: StreamIds | None = None) -> Verdict:
    return classify(tuple(text.encode().split()), NOW, ids or StreamIds())


def pinned(text: str) -> str:
    result = verdict(text)
    assert result.kind is Kind.WRITE
    return b" ".join(result.arguments).decode()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SET k v", Kind.WRITE),
        ("rpushx k v", Kind.WRITE),
        ("FLUSHDB", Kind.WRITE),
        ("SORT k STORE x", Kind.WRITE),
        ("GETEX k", Kind.WRITE),
        ("XREADGROUP GROUP BLOCK c STREAMS s >", Kind.WRITE),
        ("XREADGROUP GROUP g c COUNT 1 BLOCK 5 STREAMS s >", Kind.BLOCKING_WRITE),
        ("XREADGROUP GROUP g c COUNT 1 BLOCK 5 STREAMS s 0", Kind.WRITE),
        ("XREADGROUP GROUP g c NOACK BLOCK 5 STREAMS s t > 0", Kind.WRITE),
        ("GET k", Kind.READ),
        ("sCaN 0", Kind.READ),
        ("PUBLISH c m", Kind.READ),
        ("XREAD STREAMS s 0", Kind.READ),
        ("XREAD block 0 STREAMS s 0", Kind.BLOCKING_READ),
        ("XREAD BLOCK x STREAMS s 0", Kind.READ),
        ("XREAD COUNT 1 STREAMS BLOCK 0", Kind.READ),
        ("BLPOP k 0", Kind.BLOCKING_WRITE),
        ("BLPOP k x", Kind.BLOCKING_WRITE),
        ("BLMOVE a b LEFT", Kind.WRITE),
        ("BZMPOP 0 1 k MIN", Kind.BLOCKING_WRITE),
        ("BZMPOP 0 9 k MIN", Kind.WRITE),
        ("SORT k", Kind.READ),
        ("SORT k BY w_* ALPHA", Kind.READ),
        ("SORT k BY w_* STORE x", Kind.WRITE),
        ("GEORADIUS k 0 0 1 km", Kind.READ),
        ("GEORADIUS k 0 0 1 km STOREDIST x", Kind.WRITE),
        ("SUBSCRIBE c", Kind.LOCAL),
        ("SPOP k 3", Kind.RANDOM_POP),
        ("XCLAIM s g c 0 1-1", Kind.WRITE),
        ("XAUTOCLAIM s g c 0 0", Kind.WRITE),
        ("SCRIPT LOAD x", Kind.READ),
        ("SCRIPT EXISTS x", Kind.LOCAL),
        ("FUNCTION LIST", Kind.READ),
        ("EVAL_RO x 0", Kind.READ),
        ("CONFIG GET maxmemory", Kind.READ),
        ("CONFIG SET maxmemory 1", Kind.REFUSED),
        ("CONFIG", Kind.REFUSED),
        ("PING", Kind.LOCAL),
        ("multi", Kind.LOCAL),
        ("SELECT 1", Kind.LOCAL),
    ],
)
def test_kind(text: str, kind: Kind) -> None:
    assert verdict(text).kind is kind


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("SORT k BY w_* ALPHA STORE x", "compare equal"),
        ("XCLAIM s g c 100 1-1", "time it runs"),
        ("XAUTOCLAIM s g c 00 0", "time it runs"),
        ("EVAL return 0", "LINK_SCRIPTS"),
        ("FCALL f 0", "LINK_SCRIPTS"),
        ("FUNCTION LOAD x", "LINK_SCRIPTS"),
        ("FUNCTION KILL", "one node is running"),
        ("SCRIPT", "one node is running"),
        ("WATCH k", "share one connection"),
        ("WAIT 1 0", "one connection"),
        ("SHUTDOWN", "administers a node"),
        ("SWAPDB 0 1", "marker"),
        ("FROBNICATE", "unknown"),
        ("HGETDEL k FIELDS 1 f", "unknown"),
    ],
)
def test_refusals_name_command_and_reason(text: str, because: str) -> None:
    result = verdict(text)
    assert result.kind is Kind.REFUSED
    assert result.reason.startswith(f"ERR link: {text.split()[0]} is not available")
    assert because in result.reason


@pytest.mark.parametrize("name", [b"", b"\xff\xfe", b"X" * 10_000, b"A\r\nB"])
def test_odd_names_are_unknown_and_shown_short(name: bytes) -> None:
    result = classify((name,), NOW, StreamIds())
    assert result.kind is Kind.REFUSED
    assert len(result.reason) < 250


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SET k v EX 10", f"SET k v PXAT {NOW + 10_000}"),
        ("SET k v px 10", f"SET k v PXAT {NOW + 10}"),
        ("SET k v NX GET EX 10", f"SET k v NX GET PXAT {NOW + 10_000}"),
        ("SET k v EX 10 XX", f"SET k v PXAT {NOW + 10_000} XX"),
        ("SET EX EX EX 5", f"SET EX EX PXAT {NOW + 5_000}"),
        ("SETEX k 10 v", f"SET k v PXAT {NOW + 10_000}"),
        ("PSETEX k 10 v", f"SET k v PXAT {NOW + 10}"),
        ("GETEX k EX 10", f"GETEX k PXAT {NOW + 10_000}"),
        ("GETEX EX PX 10", f"GETEX EX PXAT {NOW + 10}"),
        ("EXPIRE k 10", f"PEXPIREAT k {NOW + 10_000}"),
        ("PEXPIRE k 10 NX", f"PEXPIREAT k {NOW + 10} NX"),
        ("EXPIRE k 10 xx", f"PEXPIREAT k {NOW + 10_000} xx"),
        ("EXPIRE k 10 GT", f"PEXPIREAT k {NOW + 10_000} GT"),
        ("EXPIRE k 10 LT", f"PEXPIREAT k {NOW + 10_000} LT"),
        ("EXPIRE k -1", f"PEXPIREAT k {NOW - 1_000}"),
        ("EXPIRE k 0", f"PEXPIREAT k {NOW}"),
        ("HEXPIRE k 10 NX FIELDS 1 f", f"HPEXPIREAT k {NOW + 10_000} NX FIELDS 1 f"),
        ("HPEXPIRE k 10 FIELDS 1 f", f"HPEXPIREAT k {NOW + 10} FIELDS 1 f"),
        ("RESTORE k 10 dump", f"RESTORE k {NOW + 10} dump ABSTTL"),
        ("RESTORE k 10 dump REPLACE", f"RESTORE k {NOW + 10} dump REPLACE ABSTTL"),
    ],
)
def test_relative_expiries_become_absolute(text: str, expected: str) -> None:
    assert pinned(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "SET k v",
        "SET k v KEEPTTL",
        "SET k v PXAT 5",
        "SET k v EXAT 5",
        "SET k EX",
        "SET EX 10",
        # What follows is wrong, and Redis shall say so.
        "SET k v EX",
        "SET k v EX x",
        "SET k v EX 0",
        "SET k v EX -5",
        "SET k v EX 1.5",
        "SET k v EX +10",
        "SET k v EX 1_0",
        "SET k v EX 010",
        "SET k v EX 99999999999999999999",
        "SETEX k 0 v",
        "SETEX k x v",
        "SETEX k 10",
        "PSETEX k -1 v",
        "EXPIRE k",
        "EXPIRE k x",
        "EXPIRE k 1_0",
        "EXPIRE k -0",
        "EXPIRE k 9223372036854775807",
        "EXPIREAT k 5",
        "GETEX k",
        "GETEX k PERSIST",
        "RESTORE k 0 dump",
        "RESTORE k 10 dump ABSTTL",
        "RESTORE k x dump",
        "RESTORE k 10",
    ],
)
def test_what_is_absolute_or_wrong_stays_verbatim(text: str) -> None:
    assert pinned(text) == text


def test_numbers_of_thousands_of_digits_are_left_to_redis() -> None:
    text = "EXPIRE k " + "9" * 5_000
    assert pinned(text) == text


@pytest.mark.parametrize(
    "options",
    [
        "",
        "NOMKSTREAM",
        "MAXLEN 5",
        "MAXLEN = 5",
        "MINID 5-1",
        "NOMKSTREAM MAXLEN = 5",
        # Wrong, and for Redis to say so.
        "MAXLEN ~ 5 LIMIT x",
        "MAXLEN ~ 5 LIMIT -1",
        "MAXLEN 5 LIMIT 10",
    ],
)
def test_xadd_gets_its_id(options: str) -> None:
    # The key and a field are named like an option and like the id.
    head = f"XADD MAXLEN {options}".rstrip()
    assert pinned(f"{head} * * value") == f"{head} {NOW}-0 * value"


@pytest.mark.parametrize("command", ["XADD s {} 7-1 f v", "XTRIM s {}"])
@pytest.mark.parametrize(
    ("asked", "exact"),
    [
        ("maxlen ~ 5", "maxlen = 5"),
        ("MAXLEN ~ 5 LIMIT 10", "MAXLEN = 5"),
        ("MINID ~ 5-1 limit 0", "MINID = 5-1"),
        ("MINID 5", "MINID 5"),
        ("MAXLEN ~", "MAXLEN ~"),
        ("MAXLEN", "MAXLEN"),
    ],
)
def test_approximate_trimming_becomes_exact(command: str, asked: str, exact: str) -> None:
    if asked.split()[-1] in ("~", "MAXLEN"):
        command = command.removesuffix(" 7-1 f v")
    assert pinned(command.format(asked)) == command.format(exact)


@pytest.mark.parametrize("text", ["XADD s 5-1 f v", "XADD s 5-* f *", "XADD s", "XADD s MAXLEN", "XADD s MAXLEN 5"])
def test_xadd_with_an_id_or_without_any_stays_verbatim(text: str) -> None:
    assert pinned(text) == text


def test_stream_ids_only_grow_even_if_the_clock_does_not() -> None:
    ids = StreamIds()
    found = [ids.next(now) for now in (5, 5, 4, 5, 6, 1)]
    assert found == [b"5-0", b"5-1", b"5-2", b"5-3", b"6-0", b"6-1"]
    keys = [tuple(map(int, each.split(b"-"))) for each in found]
    assert all(first < second for first, second in itertools.pairwise(keys))


@pytest.mark.parametrize("text", ["SET k v", "MSET a 1 b 2", "FLUSHALL", "FLUSHDB async", "SETEX k 10 v"])
def test_a_reply_is_certain(text: str) -> None:
    assert certain_reply(verdict(text).arguments) == OK


@pytest.mark.parametrize(
    # The last three are mistakes that Redis finds only when it runs the command.
    "text",
    ["SET k v NX", "SET k v GET", "SETNX k v", "RPUSH k v", "HSET k f v", "MSET a 1 b", "FLUSHALL NOW", "SETEX k x v"],
)
def test_a_reply_depends_on_the_data(text: str) -> None:
    assert certain_reply(verdict(text).arguments) == b""


# --- the sets against a real server ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is not on PATH: run ./scripts/test, whose image has it")
    folder: Path = tmp_path_factory.mktemp("redis")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    client = Redis(port=port, protocol=2)
    started = retry(
        stop=stop_after_delay(10), wait=wait_fixed(0.02), retry=retry_if_exception_type(RedisConnectionError)
    )
    try:
        started(client.ping)()
        yield client
    finally:
        server.kill()
        server.wait()


def _run(redis: Redis, *arguments: str | bytes) -> Any:
    return redis.execute_command(*arguments)  # type: ignore[no-untyped-call]


def _flags(redis: Redis) -> dict[str, set[str]]:
    found = _run(redis, "COMMAND")
    assert len(found) > 200
    return {name: {str(flag) for flag in info["flags"]} for name, info in found.items()}


def test_what_the_server_says_writes_is_never_a_read(redis: Redis) -> None:
    taken = (Kind.WRITE, Kind.BLOCKING_WRITE, Kind.RANDOM_POP, Kind.REFUSED)
    wrong = {
        name for name, flags in _flags(redis).items() if "write" in flags and verdict(f"{name} a b c").kind not in taken
    }
    # Without STORE they write nothing.
    assert wrong == {"sort", "georadius", "georadiusbymember"}


def test_what_the_server_says_blocks_is_waited_for_by_the_link(redis: Redis) -> None:
    # XREAD and XREADGROUP block only with an option.
    waits = Kind.BLOCKING_WRITE
    blocking = {name for name, flags in _flags(redis).items() if "blocking" in flags} - {"xread", "xreadgroup"}
    assert blocking >= {"blpop", "bzmpop", "brpoplpush"}
    assert {name for name in blocking - {"brpoplpush"} if verdict(f"{name} 1 1 b LEFT 1").kind is not waits} == set()
    assert verdict("BRPOPLPUSH a b 1").kind is waits


def test_every_command_of_the_server_is_known(redis: Redis) -> None:
    unknown = {name for name in _flags(redis) if "unknown" in verdict(f"{name} a b c").reason}
    assert unknown == set()


@pytest.mark.parametrize("text", ["SET k v EX 100", "SETEX k 100 v", "PSETEX k 100000 v"])
def test_a_pinned_command_leaves_the_same_data(redis: Redis, text: str) -> None:
    seconds, _ = _run(redis, "TIME")
    redis.flushall()
    pin = classify(tuple(text.encode().split()), seconds * 1000, StreamIds())
    assert _run(redis, *pin.arguments) in (True, b"OK")
    assert redis.get("k") == b"v"
    assert _run(redis, b"PEXPIRETIME", b"k") == seconds * 1000 + 100_000


@pytest.mark.parametrize("number", ["+10", "010", "1_0", "-0", "1.5", ""])
def test_redis_refuses_the_numbers_that_are_left_verbatim(redis: Redis, number: str) -> None:
    arguments = (b"EXPIRE", b"k", number.encode())
    assert classify(arguments, NOW, StreamIds()).arguments == arguments
    with pytest.raises(ResponseError, match="not an integer"):
        _run(redis, *arguments)
