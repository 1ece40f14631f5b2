"""Compares the trading node's own record with what Redis holds: every position, order, fill and account, one by one."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from trader_node.compare import SECTIONS, differences

from .results import TraderCounts
from .stack import NODES, Stack
from .trader import Trader
from .traffic import wait_until_replicated

Record = dict[str, Any]
#: Parts whose members have to stay until the node itself forgets them.
_KEPT = ("positions", "orders")
#: Times to read everything until the trader has changed nothing meanwhile.
_ATTEMPTS = 10
#: Keys to ask for at once.
_BATCH = 100
#: Nanoseconds that Nautilus, and the link while there is no master, may keep what is not written; and that a node takes
#: at least from the death of one process to the first event of the next: 5 s were measured.
_BUFFER_NS, _SILENCE_NS = 1_000_000_000, 3_000_000_000
_ONLY_OWN, _ONLY_HELD = ": only on the left", ": only on the right"


@dataclass(slots=True)
class Comparison:
    """What was compared, and what differs."""

    counts: TraderCounts = field(default_factory=TraderCounts)
    #: Every difference as one line.
    differences: list[str] = field(default_factory=list)
    #: The ids of all orders that the node knows.
    orders: frozenset[str] = frozenset()

    @property
    def exact(self) -> bool:
        """Whether Redis holds everything that the node knows, once, and nothing else."""
        counts = self.counts
        return not (self.differences or counts.lost or counts.wrong or counts.phantom or counts.duplicated)

    def __str__(self) -> str:
        """Return the counts, for people."""
        counts = self.counts
        return (
            f"{counts.positions} positions, {counts.orders} orders, {counts.fills} fills, {counts.accounts} accounts: "
            f"lost {counts.lost}, wrong {counts.wrong}, phantom {counts.phantom}, duplicated {counts.duplicated}"
        )


def compare_trader(stack: Stack, known: Record, trader: Trader | None = None) -> Comparison:
    """Compare the node's record with the master, and the master with both replicas.

    ``trader`` is the node, by default the first one of the stack. ``known`` is an earlier record of the node: nothing
    of it may be missing either, not even after a restart of the node, unless it is closed and older than the node keeps
    such things. New orders are held back meanwhile.
    """
    trader = trader or stack.trader
    keep = trader.keeps_closed_minutes()
    try:
        own = trader.report("--quiesce")
        if not own["quiesced"]:
            # A strategy of the user's own that cannot be held back goes on: what it knew has to be on every node.
            wait_until_replicated(stack)
            found = [compare_later(own, trader.in_redis(node), known, keep, time.time_ns()) for node in NODES]
            return max(found, key=lambda comparison: len(comparison.differences))
        master = stack.master()
        own, held = _of_one_moment(trader, master, own)
        unequal = _unequal(stack, trader, master)
    finally:
        trader.report("--resume")
    comparison = compare_records(own, held, known, keep, time.time_ns())
    comparison.counts.wrong += len(unequal)
    comparison.differences += unequal
    return comparison


def compare_records(own: Record, held: Record, known: Record, keep_minutes: float, now_ns: int) -> Comparison:
    """Compare the node's record, and an earlier one of it, with the record that Redis holds.

    ``keep_minutes`` is how long the node keeps what is closed, 0 for ever; ``now_ns`` is Unix time.
    """
    found = compare_later(own, held, known, keep_minutes, now_ns)
    counts = found.counts
    settled = _settled(held)
    forgets = keep_minutes > 0
    if forgets:
        settled = _without_forgotten_states(settled, own, now_ns - keep_minutes * 60e9)
    settled = _without_torn_index(settled, own, known)
    left = _without_loose_links(own, settled, forgets=forgets)
    right = _without_loose_links(settled, own, forgets=forgets)
    for line in differences(left, right):
        found.differences.append(line)
        if line.endswith(_ONLY_OWN):
            counts.lost += 1
        elif line.endswith(_ONLY_HELD):
            counts.phantom += 1
        else:
            counts.wrong += 1
    return found


def compare_later(own: Record, held: Record, known: Record, keep_minutes: float, now_ns: int) -> Comparison:
    """Compare earlier records of the node with one from Redis that may already hold more."""
    counts = TraderCounts(
        positions=len(own["positions"]),
        orders=len(own["orders"]),
        accounts=len(own["accounts"]),
        fills=sum(len(position["events"]) for position in own["positions"].values()),
    )
    oldest_kept = now_ns - keep_minutes * 60e9 if keep_minutes else 0.0
    gone = {line for earlier in (known, own) for line in _gone(earlier, held, own, oldest_kept)}
    doubled = list(_doubled(held))
    counts.lost, counts.duplicated = len(gone), len(doubled)
    return Comparison(counts, [*sorted(gone), *doubled], frozenset(own["orders"]))


def _without_loose_links(record: Record, other: Record, *, forgets: bool) -> Record:
    """Return a record without the links from orders to positions that say nothing about a loss.

    A link to an order that neither side knows: Nautilus writes it before the order, and was killed in between, with the
    order still in its own buffer. It is never removed.

    Where the node ``forgets``, a link to a position that neither side knows: closed positions and closed orders are
    purged one after the other, each by its own age. The link goes with the order, and a node that loads the order in
    between links it again.
    """
    links = record["index"].get("order_position")
    if not links:
        return record
    orders = record["orders"].keys() | other["orders"].keys()
    positions = record["positions"].keys() | other["positions"].keys()
    kept = {
        order: position
        for order, position in links.items()
        if order in orders and (position in positions or not forgets)
    }
    return {**record, "index": {**record["index"], "order_position": kept}}


def _without_forgotten_states(held: Record, own: Record, oldest_kept: float) -> Record:
    """Return a record from Redis without account states that the node has forgotten and not yet removed there.

    The node leaves some more in Redis than it keeps itself, in front and older than it keeps them, until its orders are
    held back; and it forgets more meanwhile.
    """
    accounts = dict(held["accounts"])
    for name, account in accounts.items():
        events = account["events"]
        surplus = len(events) - len(own["accounts"].get(name, account)["events"])
        if surplus > 0 and all(event["ts_init"] < oldest_kept for event in events[:surplus]):
            accounts[name] = {**account, "events": events[surplus:]}
    return {**held, "accounts": accounts}


def _without_torn_index(held: Record, own: Record, known: Record) -> Record:
    """Return a record from Redis whose index has what a killed process of the node could not write any more.

    Nautilus writes an event first and then, as further commands, the order's or the position's place in the index. A
    process that dies in between leaves the event alone. The next one makes its own index from the events when it loads,
    and does not write it: Redis goes on without. So this counts as no difference for what both sides hold, if

    - the event is from before the node's process,
    - nothing follows it for seconds, so that its process may have died after it, and
    - the earlier record, of which nothing may be missing, does not show that this process came further.
    """
    started, known_since = own.get("started_ns", 0), known.get("started_ns", 0)
    moments = sorted(
        event["ts_init"] for section in _KEPT for each in own[section].values() for event in each["events"]
    )
    index = dict(held["index"])
    for name, mine in own["index"].items():
        section = name.partition("_")[0]
        if section not in _KEPT:
            continue
        there = set(index.get(name, []))
        for key in there.symmetric_difference(mine):
            events = own[section].get(key, {}).get("events")
            if not events or key not in held[section]:
                continue
            last = events[-1]["ts_init"]
            before = known[section].get(key, {}).get("events")
            written = known_since <= last and before == events
            if last < started and not written and _is_followed_by_silence(last, moments):
                there ^= {key}
        index[name] = sorted(there)
    return {**held, "index": index}


def _is_followed_by_silence(moment: int, moments: list[int]) -> bool:
    """Whether nothing happened for as long as a node takes at least to start, but for what was in the same buffer."""
    after = bisect_right(moments, moment + _BUFFER_NS)
    return after == len(moments) or moments[after] > moment + _SILENCE_NS


def _gone(known: Record, held: Record, own: Record, oldest_kept: float) -> Iterator[str]:
    """Yield what was known before and Redis has not, unless the node may have forgotten it itself."""
    for section in _KEPT:
        for key, record in known[section].items():
            there = held[section].get(key)
            events = record["events"]
            if there is None:
                forgotten = key not in own[section] and events and events[-1]["ts_init"] < oldest_kept
                if not forgotten:
                    yield f"{section}/{key}: known to the node and gone"
            elif there["events"][: len(events)] != events and not _reopened(record, there):
                yield f"{section}/{key}: its events are not those that the node knew"


def _reopened(known: Record, there: Record) -> bool:
    """Whether a netted position was closed and opened again: Nautilus then keeps its id and drops its events."""
    netted = known.get("position_id") == f"{known.get('instrument_id')}-{known.get('strategy_id')}"
    if not netted or not there["events"]:
        return False
    first = there["events"][0]
    # One fill may close it and open it again.
    later = first["ts_init"] >= known["events"][-1]["ts_init"]
    return later and first["event_id"] not in {event["event_id"] for event in known["events"]}


def _settled(record: Record) -> Record:
    """Return a record from Redis as Nautilus loads it: a position that opened again is left among the closed ones."""
    index = record["index"]
    both = set(index.get("positions_closed", [])) & set(index.get("positions_open", []))
    if not both:
        return record
    closed = [position for position in index["positions_closed"] if position not in both]
    return {**record, "index": {**index, "positions_closed": closed}}


def _doubled(held: Record) -> Iterator[str]:
    for section in _KEPT:
        for key, record in held[section].items():
            for event, times in Counter(event["event_id"] for event in record["events"]).items():
                if times > 1:
                    yield f"{section}/{key}: event {event} is there {times} times"


def _of_one_moment(trader: Trader, master: str, own: Record) -> tuple[Record, Record]:
    """Return the node's record, and the one that the master holds, with no change of the node's in between.

    Also while its orders are held back the node forgets, in memory and in Redis, what has been closed for long: then
    both are read again.
    """
    for _ in range(_ATTEMPTS):
        held = trader.in_redis(master)
        now = trader.report()
        if all(now[part] == own[part] for part in SECTIONS):
            return own, held
        own = now
    raise RuntimeError("the node goes on changing though its orders are held back: nothing to compare")


def _unequal(stack: Stack, trader: Trader, master: str) -> list[str]:
    """Return every key of the trader that a replica holds otherwise than the master, as one line each.

    The nodes are read one after the other, and the strategy saves its state now and then: what was only read too early
    is equal the next time.
    """
    unequal: list[str] = []
    for _ in range(_ATTEMPTS):
        wait_until_replicated(stack)
        contents = _contents(stack, trader.prefix)
        unequal = [
            f"{key.decode(errors='replace')}: {node} holds something else than {master}"
            for node, content in contents.items()
            for key in sorted(content.keys() | contents[master].keys())
            if not _same(content.get(key), contents[master].get(key))
        ]
        if not unequal:
            break
    return unequal


def _same(one: Any, other: Any) -> bool:
    """Whether two nodes hold the same under a key.

    Quotes go on being published while orders are held back, so of two streams the entries count that both nodes may
    have had when they were read: from the later beginning to the earlier end.
    """
    if not (_is_stream(one) and _is_stream(other)):
        return bool(one == other)
    begin = max(_number(one[0]), _number(other[0]))
    end = min(_number(one[-1]), _number(other[-1]))
    left, right = ([entry for entry in each if begin <= _number(entry) <= end] for each in (one, other))
    return bool(left) and left == right


def _is_stream(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], tuple)


def _number(entry: tuple[bytes, Any]) -> tuple[int, int]:
    milliseconds, _, sequence = entry[0].partition(b"-")
    return int(milliseconds), int(sequence)


def _contents(stack: Stack, prefix: str) -> dict[str, dict[bytes, Any]]:
    """Return every key of a trader with its value, by node; not its link's marker, which goes on changing."""
    with ThreadPoolExecutor(len(NODES)) as threads:
        return dict(
            zip(
                NODES,
                threads.map(lambda node: read_everything(stack.reader(node, decode=False), f"{prefix}*"), NODES),
                strict=True,
            )
        )


def read_everything(client: Redis, pattern: str) -> dict[bytes, Any]:
    """Return every key that matches, with its value."""
    keys = list(client.scan_iter(pattern, count=2000))
    return {
        key: value
        for start in range(0, len(keys), _BATCH)
        for key, value in _values(client, keys[start : start + _BATCH]).items()
    }


def _values(client: Redis, keys: list[bytes]) -> dict[bytes, Any]:
    types = client.pipeline(transaction=False)
    # Redis 7.0.15 ends a TLS connection ("SSL routines::bad length") when more questions arrive while large answers to
    # earlier ones wait to be sent. Those of a transaction come when all its questions are there.
    values = client.pipeline(transaction=True)
    for key in keys:
        types.type(key)
    for key, kind in zip(keys, types.execute(), strict=True):
        if kind == b"list":
            values.lrange(key, 0, -1)
        elif kind == b"set":
            values.smembers(key)
        elif kind == b"hash":
            values.hgetall(key)
        elif kind == b"stream":
            values.xrange(key)
        else:
            values.get(key)
    return dict(zip(keys, values.execute(), strict=True))
