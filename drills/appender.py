"""Traffic: clients that append growing integers to lists of their own, singly, pipelined and in transactions."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from typing import Literal

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from .ledger import Ledger, Outcome

Style = Literal["single", "pipeline", "transaction"]
STYLES: tuple[Style, ...] = ("single", "pipeline", "transaction")


class Appenders:
    """Concurrent clients in a thread of their own; every operation ends up in ``ledger``."""

    def __init__(
        self, host: str, port: int, clients: int = 6, prefix: str = "appender", password: str | None = None
    ) -> None:
        self.ledger = Ledger()
        self._address = (host, port)
        self._clients = clients
        self._prefix = prefix
        self._password = password
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="appenders", daemon=True)
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

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:
            self._error = error

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(index) for index in range(self._clients)))

    async def _one(self, index: int) -> None:
        style = STYLES[index % len(STYLES)]
        key = f"{self._prefix}-{style}-{index}"
        numbers = itertools.count()
        client = self._connect()
        while not self._stop.is_set():
            values = [next(numbers) for _ in range(1 if style == "single" else 5)]
            for value in values:
                self.ledger.began(key, value)
            self.in_flight += len(values)
            try:
                outcomes = await self._append(client, style, key, values)
            except (RedisError, OSError):
                # The connection broke: whether it was done cannot be known from here.
                outcomes = [Outcome.INDETERMINATE] * len(values)
                await client.aclose()
                client = self._connect()
                await asyncio.sleep(0.05)
            self.in_flight -= len(values)
            now = time.monotonic()
            for value, outcome in zip(values, outcomes, strict=True):
                self.ledger.ended(key, value, outcome, now)
        await client.aclose()

    def _connect(self) -> Redis:
        host, port = self._address
        retry = Retry(NoBackoff(), 0)  # type: ignore[no-untyped-call]
        return Redis(host=host, port=port, password=self._password, retry=retry, protocol=2)

    @staticmethod
    async def _append(client: Redis, style: Style, key: str, values: list[int]) -> list[Outcome]:
        if style == "single":
            try:
                await client.rpush(key, values[0])  # type: ignore[misc]
            except ResponseError as error:
                return [_outcome(error)]
            return [Outcome.OK]
        pipeline = client.pipeline(transaction=style == "transaction")
        for value in values:
            pipeline.rpush(key, value)
        results = await pipeline.execute(raise_on_error=False)
        return [_outcome(result) for result in results]


def _outcome(result: object) -> Outcome:
    if isinstance(result, ResponseError):
        # The link says so when a write was applied and only its answer was lost.
        return Outcome.OK if str(result).startswith("UNKNOWN link: the command was applied") else Outcome.FAILED
    return Outcome.OK
