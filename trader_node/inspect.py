"""What Redis holds of a trader: ``python -m trader_node.inspect --json``.

Reads the keys that Nautilus writes, decodes them with Nautilus' serializer, rebuilds positions, orders and accounts
with Nautilus' own classes from their events, and prints the same record that a running node gives of its memory
(:mod:`trader_node.report`). It reads past the link, from the master or from any server given by ``--address``.
"""

# The compiled modules of Nautilus ship without type stubs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
import typer
from nautilus_trader.accounting.accounts.base import Account
from nautilus_trader.accounting.factory import AccountFactory
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.orders import Order
from nautilus_trader.model.orders.unpacker import OrderUnpacker
from nautilus_trader.model.position import Position
from nautilus_trader.serialization.serializer import MsgSpecSerializer
from redis import Redis
from redis.exceptions import RedisError

from trader_node.redis_access import RedisAccessError, find_master, open_server
from trader_node.settings import Settings, SettingsError
from trader_node.snapshot import Record, event_record, trader_record

# Without index:order_ids, the client order ids that have a venue order id: a node has no such set in memory.
_SETS = (
    "orders",
    "orders_open",
    "orders_closed",
    "orders_emulated",
    "orders_inflight",
    "positions",
    "positions_open",
    "positions_closed",
)
_HASHES = ("order_position", "order_client")
#: Keys to ask for at once. Redis 7.0.15 ends a TLS connection when more questions arrive while it sends earlier
#: answers: so many fit into what redis-py sends, and Redis reads, at once (6,000 bytes).
_BATCH = 40


class DamagedRecordError(RuntimeError):
    """What Redis holds cannot be put together; the message names the key."""


class TraderKeys:
    """Reads and decodes the keys of one trader.

    Parameters
    ----------
    redis
        Client of the server to read from.
    trader_id
        Whose keys.
    encoding
        ``msgpack`` or ``json``, as the node writes them.

    """

    def __init__(self, redis: Redis, trader_id: str, encoding: str = "msgpack") -> None:
        self._redis = redis
        self._prefix = f"trader-{trader_id}:"
        self._trader_id = trader_id
        self._json = encoding == "json"
        codec = msgspec.json if self._json else msgspec.msgpack
        self._serializer = MsgSpecSerializer(encoding=codec, timestamps_as_str=True)

    def record(self) -> Record:
        """Return the whole trader, and ``index`` with the index sets and hashes.

        Raises
        ------
        DamagedRecordError
            If a key cannot be decoded or applied.

        """
        instruments = self.instruments()
        return trader_record(
            self._trader_id,
            self.positions(instruments),
            self.orders(),
            self.accounts(),
            self.strategies(),
        ) | {"index": self.index()}

    def instruments(self) -> dict[str, Instrument]:
        """Return all instruments by id."""
        return {name: self._decode(name, data) for name, data in self._strings("instruments")}

    def positions(self, instruments: dict[str, Instrument]) -> Iterator[Position]:
        """Rebuild all positions from their fills."""
        for name, events in self._lists("positions"):
            first, *rest = (self._decode(name, data) for data in events)
            instrument = instruments.get(str(first.instrument_id))
            if instrument is None:
                raise DamagedRecordError(f"position {name}: its instrument {first.instrument_id} is not in Redis")
            position = Position(instrument, first)
            self._apply(position, rest, name)
            yield position

    def orders(self) -> Iterator[Order]:
        """Rebuild all orders from their events."""
        for name, events in self._lists("orders"):
            first, *rest = (self._decode(name, data) for data in events)
            order = OrderUnpacker.from_init(first)
            self._apply(order, rest, name)
            yield order

    def accounts(self) -> Iterator[tuple[Account, list[Record]]]:
        """Rebuild all accounts from their states, and return the states too."""
        for name, events in self._lists("accounts"):
            first, *rest = (self._decode(name, data) for data in events)
            states = [event_record(event) for event in (first, *rest)]
            account = AccountFactory.create(first)
            self._apply(account, rest, name)
            yield account, states

    def strategies(self) -> dict[str, dict[str, Any]]:
        """Return the saved states of all strategies."""
        return {
            name.removesuffix(":state"): self._state(self._decode(name, data))
            for name, data in self._strings("strategies")
        }

    def _state(self, state: dict[str, Any]) -> dict[str, Any]:
        # JSON has no bytes: they were written as base64 text.
        return {key: base64.b64decode(value) if self._json else value for key, value in state.items()}

    def index(self) -> Record:
        """Return the index sets, sorted, and the index hashes."""
        pipeline = self._redis.pipeline(transaction=False)
        for name in _SETS:
            pipeline.smembers(f"{self._prefix}index:{name}")
        for name in _HASHES:
            pipeline.hgetall(f"{self._prefix}index:{name}")
        answers = pipeline.execute()
        sets = {name: sorted(v.decode() for v in answers[i]) for i, name in enumerate(_SETS)}
        hashes = {
            name: {k.decode(): v.decode() for k, v in sorted(answers[len(_SETS) + i].items())}
            for i, name in enumerate(_HASHES)
        }
        return sets | hashes

    def _names(self, collection: str) -> list[str]:
        prefix = f"{self._prefix}{collection}:"
        keys = self._redis.scan_iter(match=f"{_escaped(prefix)}*", count=5000)
        # SCAN may return a key twice.
        return sorted({key.decode().removeprefix(prefix) for key in keys})

    def _lists(self, collection: str) -> Iterator[tuple[str, Sequence[bytes]]]:
        for names in _batches(self._names(collection)):
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.lrange(f"{self._prefix}{collection}:{name}", 0, -1)
            for name, events in zip(names, pipeline.execute(), strict=True):
                if events:  # empty: purged between SCAN and now
                    yield name, events

    def _strings(self, collection: str) -> Iterator[tuple[str, bytes]]:
        for names in _batches(self._names(collection)):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.mget([f"{self._prefix}{collection}:{name}" for name in names])
            (values,) = pipeline.execute()
            yield from ((name, value) for name, value in zip(names, values, strict=True) if value is not None)

    def _decode(self, name: str, data: bytes) -> Any:
        try:
            return self._serializer.deserialize(data)
        except Exception as error:
            raise DamagedRecordError(f"{name} cannot be decoded ({error}): is CACHE_ENCODING right?") from error

    @staticmethod
    def _apply(target: Any, events: Iterable[Any], name: str) -> None:
        for event in events:
            try:
                target.apply(event)
            except Exception as error:
                raise DamagedRecordError(f"{name}: {type(event).__name__} does not apply ({error})") from error


def _batches(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _BATCH):
        yield names[start : start + _BATCH]


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in text)


def main(
    trader: Annotated[str, typer.Option(help="Trader id; default TRADER_ID.")] = "",
    address: Annotated[str, typer.Option(help="HOST:PORT of a server to read instead of the master.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The whole record instead of counts.")] = False,
) -> None:
    """Print what Redis holds of a trader."""
    try:
        settings = Settings.from_env()
        place = _parse_address(address) if address else find_master(settings.redis)
        with open_server(place, settings.redis, timeout=5.0) as redis:
            record = TraderKeys(redis, trader or settings.trader_id, settings.encoding).record()
    except (SettingsError, RedisAccessError, DamagedRecordError, RedisError) as error:
        print(f"inspect: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    record["address"] = f"{place[0]}:{place[1]}"
    if as_json:
        print(json.dumps(record))
        return
    print(f"{record['trader_id']} at {record['address']}")
    for section in ("positions", "orders", "accounts", "strategies"):
        print(f"{section:12}{len(record[section])}")


def _parse_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise SettingsError(f"--address={text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    typer.run(main)
