"""How long writes stand still: one client that appends without a pause, and the time until it goes on after a fault."""

from __future__ import annotations

import threading
import time

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from .waiting import wait_until


class Pulse:
    """Appends 0, 1, 2, ... to one list through a link, each when the one before is acknowledged."""

    def __init__(self, port: int, key: str = "pulse") -> None:
        self.key = key
        self._client = Redis("127.0.0.1", port, socket_timeout=60, protocol=2)
        #: When each append was acknowledged (monotonic seconds); its index is the number appended.
        self.acknowledged: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._error: BaseException | None = None

    def start(self) -> None:
        """Start to append."""
        self._thread.start()

    def stop(self) -> int:
        """Stop and return how many appends were acknowledged. Raises what broke it."""
        self._stop.set()
        self._thread.join(60)
        if self._error is not None:
            raise self._error
        return len(self.acknowledged)

    def beating(self, count: int = 20) -> None:
        """Wait until ``count`` more appends are acknowledged."""
        goal = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= goal or self._error is not None, 60, "appends", 0.01)

    def stall_behind(self, fault_at: float, quiet: float = 0.1) -> float:
        """Return the seconds from a fault (monotonic) to the first append acknowledged behind it.

        What is acknowledged within ``quiet`` seconds was answered before the fault took hold; so a fault that stopped
        nothing for longer raises ``AssertionError``.
        """

        def went_on() -> bool:
            return max(self.acknowledged, default=0.0) > fault_at + quiet or self._error is not None

        wait_until(went_on, 60, "a write behind the fault", 0.005)
        if self._error is not None:
            raise self._error
        before, after = (
            max(at for at in self.acknowledged if at <= fault_at + quiet),
            min(at for at in self.acknowledged if at > fault_at + quiet),
        )
        assert after - before > quiet, "the fault stopped nothing"
        return after - fault_at

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._client.rpush(self.key, len(self.acknowledged))
                except ResponseError as error:
                    # The link says so when a write was applied and only its answer was lost.
                    if not str(error).startswith("UNKNOWN link: the command was applied"):
                        raise
                self.acknowledged.append(time.monotonic())
                self._stop.wait(0.002)
        except (RedisError, OSError) as error:
            self._error = error
