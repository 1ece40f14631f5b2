"""Traffic: clients that append growing integers to lists of their own, singly, pipelined and in transactions."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop
from redis.exceptions import RedisError

from .clients import Appender, LeanAppender, RedisPyAppender, Style
from .ledger import Ledger, Outcome, Record


@dataclass(frozen=True, slots=True)
class Kind:
    """How one client appends: ``batch`` operations at a time, at most ``rate`` per second (0: as fast as it can)."""

    style: Style
    batch: int = 1
    lean: bool = False
    rate: float = 0.0

    @property
    def name(self) -> str:
        """What the client's keys are called after."""
        return f"{'lean' if self.lean else 'redispy'}-{self.style}-{self.batch}"

    def connect(self, host: str, port: int, password: str) -> Appender:
        """Return a client."""
        return (LeanAppender if self.lean else RedisPyAppender)(host, port, password, self.style)


#: Clients as programs have them.
ORDINARY = (Kind("single"), Kind("pipeline", 16), Kind("transaction", 5)) * 2


def volume(rate: float) -> tuple[Kind, ...]:
    """Return clients of all kinds that append about ``rate`` integers per second together.

    One of them is never idle, so that some operation is under way whenever a fault happens.
    """
    return (
        Kind("single"),
        Kind("single", lean=True, rate=rate * 0.05),
        Kind("pipeline", 16, rate=rate * 0.1),
        Kind("transaction", 5, rate=rate * 0.05),
        Kind("transaction", 10, lean=True, rate=rate * 0.2),
        Kind("pipeline", 50, lean=True, rate=rate * 0.3),
        Kind("pipeline", 50, lean=True, rate=rate * 0.3),
    )


class Appenders:
    """Concurrent clients in a thread of their own; every operation ends up in ``ledger``.

    Each client appends to a list of its own and begins another one at the next operation after :meth:`rotate`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        kinds: Sequence[Kind] = ORDINARY,
        *,
        prefix: str = "appender",
        password: str = "",
        ledger: Ledger | None = None,
    ) -> None:
        self.ledger = ledger if ledger is not None else Ledger()
        self.prefix = prefix
        self._address = (host, port)
        self._password = password
        self._kinds = kinds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="appenders", daemon=True)
        self._generation = 0
        self._generations = [0] * len(kinds)
        #: Operations sent and not answered at the moment.
        self.in_flight = 0
        self._error: BaseException | None = None

    def start(self) -> None:
        """Start the traffic."""
        self._thread.start()

    def stop(self, seconds: float = 60.0) -> Ledger:
        """Stop when what is under way is answered, and return the ledger."""
        self._stop.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError(f"{self.in_flight} operations are still unanswered after {seconds} s")
        if self._error is not None:
            raise self._error
        return self.ledger

    def rotate(self) -> None:
        """Have every client begin another list; those of before are closed as soon as :attr:`rotated`."""
        self._generation += 1

    @property
    def rotated(self) -> bool:
        """Whether every client has finished an operation since the last :meth:`rotate`, and gone on."""
        return not self.waiting()

    def waiting(self) -> list[str]:
        """Return the names of the clients that have not begun another list since the last :meth:`rotate`."""
        if self._error is not None:
            raise self._error
        return [
            f"{kind.name}-{index}"
            for index, (kind, generation) in enumerate(zip(self._kinds, self._generations, strict=True))
            if generation != self._generation
        ]

    def closed(self) -> dict[str, Record]:
        """Return the lists that no client appends to any more."""
        return {key: record for key, record in list(self.ledger.records.items()) if record.closed}

    def _run(self) -> None:
        try:
            uvloop.run(self._all())
        except BaseException as error:
            self._error = error

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(index, kind) for index, kind in enumerate(self._kinds)))

    async def _one(self, index: int, kind: Kind) -> None:
        client = kind.connect(*self._address, self._password)
        pause = kind.batch / kind.rate if kind.rate else 0.0
        while not self._stop.is_set():
            generation = self._generation
            key = f"{self.prefix}-{kind.name}-{index}-{generation}"
            record = self.ledger.open(key)
            self._generations[index] = generation
            while generation == self._generation and not self._stop.is_set():
                due = time.monotonic() + pause
                client = await self._append(client, kind, key, record)
                if pause:
                    # Also behind its time it lets go for once: no client keeps the others from their turn.
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
            record.closed = True
        await client.close()

    async def _append(self, client: Appender, kind: Kind, key: str, record: Record) -> Appender:
        values = record.began(kind.batch)
        began = time.monotonic()
        self.in_flight += kind.batch
        try:
            outcomes = await client.append(key, values)
        except (RedisError, OSError):
            # The connection broke: whether it was done cannot be known from here.
            outcomes = [Outcome.INDETERMINATE] * kind.batch
            await client.close()
            client = kind.connect(*self._address, self._password)
        self.in_flight -= kind.batch
        self.ledger.ended(record, outcomes, began, time.monotonic())
        if Outcome.INDETERMINATE in outcomes:
            await self._until_listening()
        return client

    async def _until_listening(self) -> None:
        """Wait until somebody listens again: what was never sent is no operation."""
        while not self._stop.is_set():
            try:
                _, writer = await asyncio.open_connection(*self._address)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
