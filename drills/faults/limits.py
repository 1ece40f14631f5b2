"""Limits that a running master meets: memory, and bytes that its file system takes."""

from __future__ import annotations

from typing import Any

from drills.stack import NODES
from drills.waiting import wait_until

from .base import FAILOVER, Fault

_DEFAULT_MAXMEMORY = "512mb"


class MemoryLimit(Fault):
    """The data set of the master has reached ``maxmemory``: Redis refuses every write until there is more."""

    name = "memory-limit"
    summary = "the master has no memory left and refuses every write (OOM)"
    changes_master = False
    resumes_unhealed = False

    def prepare(self) -> None:
        """Note how often writes were refused so far."""
        self._refused = self._refusals()

    def inject(self) -> None:
        """Lower the limit below what is used."""
        client = self.stack.client(self.master)
        # Not 0, which means no limit.
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 0.9))

    def confirm(self) -> str:
        """Wait until a write was refused, and the trader's link says that it holds them for that."""
        wait_until(lambda: self._refusals() > self._refused, FAILOVER, f"{self.master} refuses a write with OOM", 0.05)
        wait_until(lambda: "OOM" in self.stack.link()["reason"], FAILOVER, "the link says that it holds writes")
        link: dict[str, Any] = self.stack.link()
        return f"{self.master} refused {self._refusals() - self._refused} commands with OOM; {link['reason']}"

    def heal(self) -> None:
        """Give all nodes the memory that their containers were started with."""
        for node in NODES:
            environment = self.stack.inspect_container(node)["Config"]["Env"]
            settings = dict(entry.split("=", 1) for entry in environment)
            self.stack.client(node).config_set("maxmemory", settings.get("REDIS_MAXMEMORY") or _DEFAULT_MAXMEMORY)

    def _refusals(self) -> int:
        refusals: dict[str, int] = self.stack.client(self.master).info("errorstats").get("errorstat_OOM", {})
        return refusals.get("count", 0)


FAULTS: tuple[type[Fault], ...] = (MemoryLimit,)
