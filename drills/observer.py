"""Watches a stack while it is being broken: what every node says of itself, and what every Sentinel publishes."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Literal

from redis.exceptions import RedisError

from .stack import NODES, SENTINELS, Stack

State = Literal["master", "replica", "silent"]
#: Seconds between two questions, and until a node counts as silent.
_INTERVAL = 0.1
_PATIENCE = 0.3


@dataclass(frozen=True, slots=True)
class Said:
    """What a node said of itself, from ``at`` (Unix seconds) on."""

    at: float
    node: str
    state: State


@dataclass(frozen=True, slots=True)
class Published:
    """An event of a Sentinel."""

    at: float
    sentinel: str
    kind: str
    text: str


class Observer:
    """Asks and listens in threads of its own from :meth:`start` to :meth:`stop`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.changes: list[Said] = []
        self.events: list[Published] = []
        self._now: dict[str, State] = {}

    def start(self) -> None:
        """Start watching."""
        for target, names in ((self._watch, NODES), (self._listen, SENTINELS)):
            for name in names:
                thread = threading.Thread(target=target, args=(name,), name=f"observer-{name}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        for thread in self._threads:
            thread.join(5)

    @property
    def masters(self) -> list[str]:
        """The nodes that say they are the master at the moment."""
        return [node for node, state in sorted(self._now.items()) if state == "master"]

    def promotion(self, since: float, old: str) -> float | None:
        """Return when the first node other than ``old`` said that it is the master, after ``since``."""
        return next((said.at for said in self.changes if _promotes(said, since, old)), None)

    def _watch(self, node: str) -> None:
        client = self._stack.client(node, _PATIENCE)
        while not self._stop.wait(_INTERVAL):
            try:
                state: State = "master" if client.role()[0] == "master" else "replica"
            except (RedisError, OSError):
                state = "silent"
            if self._now.get(node) != state:
                self._now[node] = state
                self.changes.append(Said(time.time(), node, state))

    def _listen(self, sentinel: str) -> None:
        while not self._stop.is_set():
            subscription = self._stack.client(sentinel, 0.5).pubsub(ignore_subscribe_messages=True)
            try:
                subscription.psubscribe("*")
                while not self._stop.is_set():
                    message = subscription.get_message(timeout=0.2)
                    if message is not None:
                        text = str(message["data"])
                        self.events.append(Published(time.time(), sentinel, str(message["channel"]), text))
            except (RedisError, OSError):
                self._stop.wait(_INTERVAL)
            finally:
                subscription.close()  # type: ignore[no-untyped-call]


def _promotes(said: Said, since: float, old: str) -> bool:
    return said.at >= since and said.node != old and said.state == "master"
