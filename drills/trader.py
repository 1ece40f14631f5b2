"""One trading node of a stack: what it and its link say of themselves, and what Redis holds of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .waiting import wait_until

if TYPE_CHECKING:
    from .stack import Stack

#: The services of a stack's traders; the second one is there with compose/second-trader.yaml.
TRADER, SECOND_TRADER = "trader", "trader-2"
#: Its identity, unless its settings say otherwise.
DEFAULT_IDS = {TRADER: "TRADER-001", SECOND_TRADER: "TRADER-002"}
#: The node's own default.
_KEEPS_CLOSED_MINUTES = 10.0
_STATUS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9125/status').read().decode())"


class Trader:
    """A trading node, by the service that it is."""

    def __init__(self, stack: Stack, service: str, trader_id: str) -> None:
        self._stack = stack
        self.service = service
        self.id = trader_id

    @property
    def prefix(self) -> str:
        """What all its keys but the marker begin with."""
        return f"trader-{self.id}:"

    @property
    def marker_key(self) -> str:
        """The key of its link's marker."""
        return f"trader-{self.id}.link"

    def marker(self, node: str) -> tuple[str, int]:
        """Return owner and last entry of its link's marker on a node of Redis."""
        owner, seq = self._stack.client(node).hmget(self.marker_key, ["o", "s"])
        return str(owner), int(seq or 0)

    def wait_for_writes_on(self, node: str, entries: int = 10, seconds: float = 30.0) -> None:
        """Wait until its link has applied more entries on a master: proof that it trades and Redis takes it."""
        goal = self.marker(node)[1] + entries
        wait_until(lambda: self.marker(node)[1] >= goal, seconds, f"{entries} more entries of {self.id} on {node}")

    def link(self) -> dict[str, Any]:
        """Return its link's state."""
        state: dict[str, Any] = json.loads(self._stack.execute(self.service, "python", "-c", _STATUS))
        return state

    def holding(self) -> bool:
        """Whether its link holds writes because there is no master that takes them."""
        link = self.link()
        return bool(link["state"] == "holding" and link["unfinished"] > 0)

    def report(self, *options: str) -> dict[str, Any]:
        """Return its own record of its positions, orders and accounts."""
        command = ("python", "-m", "trader_node.report", *options)
        record: dict[str, Any] = json.loads(self._stack.execute(self.service, *command))
        return record

    def in_redis(self, node: str) -> dict[str, Any]:
        """Return the same record, rebuilt from what a node of Redis holds."""
        address = f"{self._stack.ip(node)}:6379"
        command = ("python", "-m", "trader_node.inspect", "--json", "--address", address)
        record: dict[str, Any] = json.loads(self._stack.execute(self.service, *command))
        return record

    def keeps_closed_minutes(self) -> float:
        """Return for how many minutes it keeps what is closed; 0: for ever."""
        minutes = self._stack.environment_of(self.service).get("TRADER_KEEP_CLOSED_MINUTES")
        return float(minutes) if minutes else _KEEPS_CLOSED_MINUTES
