"""What each command is to the link, and how a command is pinned so that replaying it later means the same.

The sets follow the command flags of Redis 7.0 to 7.4 (``COMMAND INFO``). A command that is in none of them is refused:
guessing wrong would lose or double a write.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .wire import OK, PONG


class Kind(enum.Enum):
    """How the link treats a command."""

    #: Journalled, sent in order, replayed: exactly once.
    WRITE = "write"
    #: Forwarded to the current master after the client's own earlier writes.
    READ = "read"
    #: Answered by the link, because it concerns the client's connection to the link.
    LOCAL = "local"
    #: Not carried out; the answer says why.
    REFUSED = "refused"


_WRITES = frozenset(
    b"""
    APPEND BITFIELD BITOP COPY DECR DECRBY DEL EXPIRE EXPIREAT FLUSHALL FLUSHDB GEOADD GEORADIUS GEORADIUSBYMEMBER
    GEOSEARCHSTORE GETDEL GETEX GETSET HDEL HEXPIRE HEXPIREAT HINCRBY HINCRBYFLOAT HMSET HPERSIST HPEXPIRE
    HPEXPIREAT HSET HSETNX INCR INCRBY INCRBYFLOAT LINSERT LMOVE LMPOP LPOP LPUSH LPUSHX LREM LSET LTRIM MOVE MSET
    MSETNX PERSIST PEXPIRE PEXPIREAT PFADD PFMERGE PSETEX RENAME RENAMENX RESTORE RPOP RPOPLPUSH RPUSH RPUSHX SADD
    SDIFFSTORE SET SETBIT SETEX SETNX SETRANGE SINTERSTORE SMOVE SORT SREM SUNIONSTORE UNLINK XACK XADD XDEL
    XGROUP XREADGROUP XSETID XTRIM ZADD ZDIFFSTORE ZINCRBY ZINTERSTORE ZMPOP ZPOPMAX ZPOPMIN ZRANGESTORE ZREM
    ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZUNIONSTORE
    """.split()
)
_READS = frozenset(
    b"""
    BITCOUNT BITFIELD_RO BITPOS COMMAND DBSIZE DUMP EXISTS EXPIRETIME GEODIST GEOHASH GEOPOS GEORADIUSBYMEMBER_RO
    GEORADIUS_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HEXPIRETIME HGET HGETALL HKEYS HLEN HMGET HPEXPIRETIME HPTTL
    HRANDFIELD HSCAN HSTRLEN HTTL HVALS INFO KEYS LASTSAVE LCS LINDEX LLEN LOLWUT LPOS LRANGE MEMORY MGET OBJECT
    PEXPIRETIME PFCOUNT PTTL PUBLISH PUBSUB RANDOMKEY ROLE SCAN SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS
    SMISMEMBER SORT_RO SPUBLISH SRANDMEMBER SSCAN STRLEN SUBSTR SUNION TIME TOUCH TTL TYPE XINFO XLEN XPENDING
    XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX
    ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION
    """.split()
)
_LOCAL = frozenset(b"AUTH CLIENT DISCARD ECHO EXEC HELLO MULTI PING QUIT RESET SELECT UNWATCH".split())

_BLOCKING = "it blocks, and a blocked command cannot be replayed exactly; use its non-blocking form"
_PUBSUB = "subscriptions do not go through the link; subscribe at the Redis nodes themselves"
_RANDOM = "its effect is random or depends on the time it runs, so a replay would differ"
_SCRIPT = "a script's effect may differ when it is replayed; use MULTI and EXEC"
_ADMIN = "it administers a node, and nodes change roles; send it to the node itself"
_UNKNOWN = "it is unknown, so the link cannot tell whether it writes"
_REASONS: dict[bytes, str] = {
    **dict.fromkeys(
        b"""
        ACL ASKING BGREWRITEAOF BGSAVE CLUSTER CONFIG DEBUG FAILOVER LATENCY MIGRATE MODULE MONITOR PFDEBUG
        PFSELFTEST PSYNC READONLY READWRITE REPLCONF REPLICAOF RESTORE-ASKING SAVE SHUTDOWN SLAVEOF SLOWLOG SYNC
        """.split(),
        _ADMIN,
    ),
    **dict.fromkeys(b"BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN".split(), _BLOCKING),
    **dict.fromkeys(b"SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE".split(), _PUBSUB),
    **dict.fromkeys(b"SPOP XCLAIM XAUTOCLAIM".split(), _RANDOM),
    **dict.fromkeys(b"EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO FUNCTION SCRIPT".split(), _SCRIPT),
    b"WATCH": "transactions of several clients share one connection to Redis, which can watch for none of them",
    b"WAIT": "it counts the writes of one connection to Redis, which is not the client's",
    b"WAITAOF": "it counts the writes of one connection to Redis, which is not the client's",
    b"SWAPDB": "it would move the link's marker into another database",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The link's decision on one command."""

    kind: Kind
    #: The command as it is journalled and sent; differs from the client's only where it had to be pinned.
    arguments: tuple[bytes, ...] = ()
    #: Why a command was refused.
    reason: str = ""


class StreamIds:
    """Stream entry ids that only grow, for ``XADD *``.

    Redis would take the id from its own clock at the time a command runs, so a replay would store the same message
    under another id.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = (0, 0)

    def next(self, now_ms: int) -> bytes:
        """Return an id for the time ``now_ms`` (Unix milliseconds), greater than all before it."""
        last_ms, last_seq = self._last
        self._last = (now_ms, 0) if now_ms > last_ms else (last_ms, last_seq + 1)
        return b"%d-%d" % self._last


def classify(arguments: tuple[bytes, ...], now_ms: int, stream_ids: StreamIds) -> Verdict:
    """Decide on one command of a client.

    ``now_ms`` is the wall clock in Unix milliseconds: relative expiries become absolute against it.
    """
    name = arguments[0].upper()
    if name in _WRITES:
        pin = _PINS.get(name)
        if pin is not None:
            return pin(arguments, now_ms, stream_ids)
        return Verdict(Kind.WRITE, arguments)
    if name in _READS:
        if name == b"XREAD" and _has_option(arguments, b"BLOCK", 1):
            return _refused(name, _BLOCKING)
        return Verdict(Kind.READ, arguments)
    if name in _LOCAL:
        return Verdict(Kind.LOCAL, arguments)
    if name == b"CONFIG" and len(arguments) > 1 and arguments[1].upper() == b"GET":
        return Verdict(Kind.READ, arguments)
    return _refused(name, _REASONS.get(name, _UNKNOWN))


def certain_reply(arguments: tuple[bytes, ...]) -> bytes:
    """Return the only possible reply to a write that was applied, or nothing if it depends on the data.

    Mistakes that Redis finds only when it runs a command (a number, the count of arguments) leave it open, too.
    """
    name = arguments[0].upper()
    certain = False
    if name == b"SET":
        certain = len(arguments) == 3 or (
            len(arguments) == 5 and arguments[3].upper() in (b"PXAT", b"EXAT") and _positive(arguments[4])
        )
    elif name == b"MSET":
        certain = len(arguments) % 2 == 1
    elif name in (b"FLUSHALL", b"FLUSHDB"):
        certain = len(arguments) == 1 or (len(arguments) == 2 and arguments[1].upper() in (b"ASYNC", b"SYNC"))
    elif name == b"SELECT":
        # Checked when it was queued.
        certain = True
    elif name == b"PING" and len(arguments) == 1:
        return PONG
    return OK if certain else b""


def _positive(text: bytes) -> bool:
    # As seconds, Redis multiplies it by 1000.
    return _INTEGER.fullmatch(text) is not None and 0 < int(text) < 1 << 52


def _refused(name: bytes, reason: str) -> Verdict:
    shown = name[:32].decode(errors="replace")
    return Verdict(Kind.REFUSED, reason=f"ERR link: {shown} is not available through the link: {reason}")


def _has_option(arguments: tuple[bytes, ...], option: bytes, start: int) -> bool:
    return any(argument.upper() == option for argument in arguments[start:])


#: What Redis takes as an integer (``string2ll``); ``int`` would also take ``+1``, ``01``, `` 1`` and ``1_0``.
_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


def _absolute(text: bytes, unit_ms: int, now_ms: int) -> bytes | None:
    """Return a relative expiry as Unix milliseconds, or None if Redis will refuse the number anyway."""
    if not _INTEGER.fullmatch(text):
        return None
    deadline = now_ms + int(text) * unit_ms
    return b"%d" % deadline if 0 < deadline < 1 << 62 else None


_EXPIRY_OPTIONS = {b"EX": 1000, b"PX": 1}


def _pin_options(arguments: tuple[bytes, ...], start: int, now_ms: int) -> tuple[bytes, ...]:
    """Replace ``EX seconds`` and ``PX milliseconds`` behind ``start`` by ``PXAT``; leave invalid ones to Redis."""
    for index in range(start, len(arguments) - 1):
        unit_ms = _EXPIRY_OPTIONS.get(arguments[index].upper())
        if unit_ms is None:
            continue
        text = arguments[index + 1]
        deadline = _absolute(text, unit_ms, now_ms)
        # Zero and negative numbers are an error with EX but mean "delete" with PXAT.
        if deadline is None or int(text) <= 0:
            return arguments
        return (*arguments[:index], b"PXAT", deadline, *arguments[index + 2 :])
    return arguments


def _pin_set(arguments: tuple[bytes, ...], now_ms: int, _: StreamIds) -> Verdict:
    return Verdict(Kind.WRITE, arguments if len(arguments) == 3 else _pin_options(arguments, 3, now_ms))


def _pin_getex(arguments: tuple[bytes, ...], now_ms: int, _: StreamIds) -> Verdict:
    return Verdict(Kind.WRITE, _pin_options(arguments, 2, now_ms))


def _setex_pin(unit_ms: int) -> Callable[[tuple[bytes, ...], int, StreamIds], Verdict]:
    def pin(arguments: tuple[bytes, ...], now_ms: int, _: StreamIds) -> Verdict:
        if len(arguments) == 4:
            deadline = _absolute(arguments[2], unit_ms, now_ms)
            if deadline is not None and int(arguments[2]) > 0:
                return Verdict(Kind.WRITE, (b"SET", arguments[1], arguments[3], b"PXAT", deadline))
        return Verdict(Kind.WRITE, arguments)

    return pin


def _expire_pin(name: bytes, unit_ms: int) -> Callable[[tuple[bytes, ...], int, StreamIds], Verdict]:
    def pin(arguments: tuple[bytes, ...], now_ms: int, _: StreamIds) -> Verdict:
        if len(arguments) >= 3:
            deadline = _absolute(arguments[2], unit_ms, now_ms)
            if deadline is not None:
                return Verdict(Kind.WRITE, (name, arguments[1], deadline, *arguments[3:]))
        return Verdict(Kind.WRITE, arguments)

    return pin


def _pin_restore(arguments: tuple[bytes, ...], now_ms: int, _: StreamIds) -> Verdict:
    if len(arguments) >= 4 and arguments[2] != b"0" and not _has_option(arguments, b"ABSTTL", 4):
        deadline = _absolute(arguments[2], 1, now_ms)
        if deadline is not None and int(arguments[2]) > 0:
            pinned = (*arguments[:2], deadline, *arguments[3:], b"ABSTTL")
            return Verdict(Kind.WRITE, pinned)
    return Verdict(Kind.WRITE, arguments)


def _pin_xadd(arguments: tuple[bytes, ...], now_ms: int, stream_ids: StreamIds) -> Verdict:
    # XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|id field value [field value ...]
    index = 2
    while index < len(arguments):
        option = arguments[index].upper()
        if option == b"NOMKSTREAM":
            index += 1
        elif option in (b"MAXLEN", b"MINID"):
            index += 1
            if index < len(arguments) and arguments[index] in (b"=", b"~"):
                index += 1
            index += 1
        elif option == b"LIMIT":
            index += 2
        else:
            break
    if index < len(arguments) and arguments[index] == b"*":
        arguments = (*arguments[:index], stream_ids.next(now_ms), *arguments[index + 1 :])
    return Verdict(Kind.WRITE, arguments)


def _pin_xreadgroup(arguments: tuple[bytes, ...], _now_ms: int, _: StreamIds) -> Verdict:
    # XREADGROUP GROUP group consumer [COUNT n] [BLOCK ms] ...: names at 2 and 3 may spell anything.
    if _has_option(arguments, b"BLOCK", 4):
        return _refused(b"XREADGROUP", _BLOCKING)
    return Verdict(Kind.WRITE, arguments)


_PINS: dict[bytes, Callable[[tuple[bytes, ...], int, StreamIds], Verdict]] = {
    b"SET": _pin_set,
    b"GETEX": _pin_getex,
    b"SETEX": _setex_pin(1000),
    b"PSETEX": _setex_pin(1),
    b"EXPIRE": _expire_pin(b"PEXPIREAT", 1000),
    b"PEXPIRE": _expire_pin(b"PEXPIREAT", 1),
    b"HEXPIRE": _expire_pin(b"HPEXPIREAT", 1000),
    b"HPEXPIRE": _expire_pin(b"HPEXPIREAT", 1),
    b"RESTORE": _pin_restore,
    b"XADD": _pin_xadd,
    b"XREADGROUP": _pin_xreadgroup,
}


def _spellings(names: Iterable[bytes]) -> frozenset[bytes]:
    """Return the names in upper and in lower case, as clients write them."""
    return frozenset(spelling for name in names for spelling in (name, name.lower()))


#: Reads and writes that are what they are whatever their arguments say, and that are sent as they came.
_PLAIN_READS = _spellings(_READS - {b"XREAD", b"PUBLISH", b"SPUBLISH"})
_PLAIN_WRITES = _spellings(_WRITES - _PINS.keys())
_SET = _spellings([b"SET"])


def common_kind(commands: list[list[bytes]]) -> Kind | None:
    """Return the kind of many commands at once if they are all plain reads or all plain writes, or None.

    A quick look for the hot path: None says nothing but that each has to be classified by itself.
    """
    names = {command[0] for command in commands}
    if names <= _PLAIN_READS:
        return Kind.READ
    if names <= _PLAIN_WRITES:
        return Kind.WRITE
    if names - _SET <= _PLAIN_WRITES and all(len(command) == 3 for command in commands if command[0] in _SET):
        return Kind.WRITE
    return None
