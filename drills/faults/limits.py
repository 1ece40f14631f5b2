"""Limits that a running master meets: memory, and bytes that its file system takes."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from drills.stack import NODES, Stack
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
        # Until clients have piled up behind it.
        self.linger(self.random.uniform(1.0, 3.0))
        link: dict[str, Any] = self.stack.link()
        return f"{self.master} refused {self._refusals() - self._refused} commands with OOM; {link['reason']}"

    def heal(self) -> None:
        """Give all nodes the memory that their containers were started with."""
        for node in filter(self.stack.running, NODES):
            environment = self.stack.inspect_container(node)["Config"]["Env"]
            settings = dict(entry.split("=", 1) for entry in environment)
            self.stack.client(node).config_set("maxmemory", settings.get("REDIS_MAXMEMORY") or _DEFAULT_MAXMEMORY)

    def _refusals(self) -> int:
        refusals: dict[str, int] = self.stack.client(self.master).info("errorstats").get("errorstat_OOM", {})
        return refusals.get("count", 0)


class DiskFull(Fault):
    """The file system of the master takes no more bytes: Redis cannot write its AOF and refuses writes (MISCONF).

    It answers a PING with that error as well, which Sentinels count as silence: they promote another node.
    """

    name = "disk-full"
    summary = "the master's disk takes no more bytes, and it refuses writes (MISCONF)"

    def inject(self) -> None:
        """Let every write to a file fail: the limit is on the size of any file of the server's process."""
        _limit_files(self.stack, self.master, "1")

    def confirm(self) -> str:
        """Wait until a write is refused for that, and for the promotion: Sentinels count the master as down."""
        wait_until(self._refuses, FAILOVER, f"{self.master} refuses a write with MISCONF", 0.02)
        return f"{self.master} refused writes with MISCONF; {self.confirm_promotion()}"

    def _refuses(self) -> bool:
        try:
            # A write that would change nothing.
            self.stack.client(self.master).delete("drill-that-nobody-has")
        except ResponseError as error:
            return str(error).startswith("MISCONF")
        return False

    def heal(self) -> None:
        """Let files grow again, on every node whose process is still the one that was limited."""
        for node in filter(self.stack.running, NODES):
            _limit_files(self.stack, node, "unlimited")


#: Sets the soft limit of every Redis process's file size to ``$1``.
_LIMIT = """
for process in /proc/[0-9]*; do
    if [ "$(cat "$process/comm" 2>/dev/null)" = redis-server ]; then prlimit --pid "${process#/proc/}" "--fsize=$1:"; fi
done
"""


def _limit_files(stack: Stack, node: str, size: str) -> None:
    # As the same user, who may change it without any privilege.
    user = stack.inspect_container(node)["Config"]["User"]
    stack.beside(node, "sh", "-euc", _LIMIT, "sh", size, options=("--user", user))


FAULTS: tuple[type[Fault], ...] = (MemoryLimit, DiskFull)
