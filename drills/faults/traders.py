"""One trader of several runs wild: whatever it does, the others' data stays exact and their writes go on."""

from __future__ import annotations

import json
import subprocess
import threading
import time

from redis.exceptions import NoPermissionError, RedisError

from drills import partition
from drills.stack import Stack
from drills.waiting import wait_until

from .base import FAILOVER, Fault

#: Seconds of the flood, and for which the full journal is left as it is.
_FLOOD, _FULL = 3.0, 1.0
#: Seconds in which a journal of 256 MiB, the default, must be full.
_FILLED = 90.0
#: Seconds that may pass between two writes of the first trader.
_LONGEST_PAUSE = 4.0
#: What the second trader floods Redis with.
_FLOODED = "flood"
_WIPES = ("FLUSHDB", "FLUSHALL", "FLUSHALL ASYNC", "SWAPDB 0 1")

#: Sends appends to a list of bounded length through the trader's own link, for ``seconds`` or until its input ends;
#: prints the bytes that were acknowledged.
_FLOOD_SCRIPT = """
import json, sys, threading, time
from redis import Redis
key, size, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
end, sent = time.monotonic() + seconds, []
def flood():
    client = Redis("127.0.0.1", 6379, protocol=2, socket_timeout=3600)
    while time.monotonic() < end:
        pipeline = client.pipeline(transaction=False)
        for _ in range(16):
            pipeline.rpush(key, "x" * size)
        pipeline.ltrim(key, 0, 15)
        pipeline.execute()
        sent.append(16 * size)
threads = [threading.Thread(target=flood, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
while time.monotonic() < end and any(thread.is_alive() for thread in threads):
    time.sleep(0.1)
print(json.dumps(sum(sent)))
"""
_THROUGH_THE_LINK = """
import sys
from redis import Redis
try:
    print(Redis("127.0.0.1", 6379, protocol=2, socket_timeout=20).execute_command(*sys.argv[1:]))
except Exception as error:
    print(type(error).__name__, error)
"""


class Pauses:
    """Watches the marker of a trader's link on the master, and how long it stands still."""

    def __init__(self, stack: Stack, node: str) -> None:
        self._client = stack.client(node, 5.0)
        self._key = stack.trader.marker_key
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pauses", daemon=True)
        #: Seconds, the longest one and the one at the moment.
        self.longest = 0.0
        self.changes = 0

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join(10)

    def _watch(self) -> None:
        last, since = None, time.monotonic()
        while not self._ended.wait(0.02):
            try:
                seq = self._client.hget(self._key, "s")
            except (RedisError, OSError):
                seq = last
            now = time.monotonic()
            self.longest = max(self.longest, now - since)
            if seq != last:
                last, since = seq, now
                self.changes += 1


class TradersIsolated(Fault):
    """The second trader floods Redis, tries to wipe it, is cut off until its journal is full, and is killed."""

    name = "traders-isolated"
    summary = "a second trader floods Redis, tries FLUSHDB, fills its journal and is killed; the first one trades on"
    changes_master = False
    interrupts_writes = False
    interrupts_trader = False
    needs_logins = True

    @classmethod
    def unavailable(cls, stack: Stack) -> str:
        """Return why this stack has no traders that could be kept apart."""
        if len(stack.traders) < 2:
            return "the stack has no second trader: ./scripts/up --staging --second-trader starts one with two"
        if stack.secrets is None:
            return "without logins nothing keeps traders apart: ./scripts/up --staging --second-trader has them"
        return ""

    def prepare(self) -> None:
        """Remove what an interrupted run may have left."""
        self._wild = self.stack.traders[1]
        self._key = f"{self._wild.prefix}{_FLOODED}"
        self._remove_flood()
        self._pauses = Pauses(self.stack, self.master)
        self._flood: subprocess.Popen[str] | None = None

    def inject(self) -> None:
        """Begin the flood."""
        self._pauses.start()
        self._flood = self._start_flood(1024, _FLOOD)

    def confirm(self) -> str:
        """Let it flood, be refused, fill its journal and die, and look at how the first one fares."""
        assert self._flood is not None
        flooded = json.loads(self._flood.communicate(timeout=_FLOOD + FAILOVER)[0])
        if not flooded:
            raise RuntimeError(f"{self._wild.service} could not flood: nothing was acknowledged")
        refused = self._try_to_wipe()
        full = self._fill_journal()
        self.stack.kill(self._wild.service)
        wait_until(lambda: not self.stack.running(self._wild.service), FAILOVER, f"{self._wild.service} is dead")
        self.linger(_FULL)
        self._pauses.stop()
        if not self._pauses.changes or self._pauses.longest > _LONGEST_PAUSE:
            raise RuntimeError(f"{self.stack.trader_id} wrote nothing for {self._pauses.longest:.1f} s")
        pause = self._pauses.longest
        return (
            f"{self._wild.id} flooded {flooded / 1e6:.0f} MB in {_FLOOD:g} s, was refused {refused}, had its journal "
            f"full ({full}) and was killed; {self.stack.trader_id} wrote on, with writes at most {pause:.2f} s apart"
        )

    def heal(self) -> None:
        """Start it again, let it store what is in its journal, and remove the flood."""
        self._pauses.stop()
        if self._flood is not None and self._flood.poll() is None:
            self._flood.kill()
            self._flood.communicate()
        partition.clear(self.stack, [self._wild.service])
        self.stack.ensure_running(self._wild.service)

        def stored() -> bool:
            link = self._wild.link()
            return bool(link["state"] == "ready" and not link["unfinished"])

        wait_until(stored, 2 * FAILOVER, f"{self._wild.service} has stored what was in its journal", 0.3)
        wait_until(lambda: self.stack.healthy(self._wild.service), FAILOVER, f"{self._wild.service} is healthy")
        self._remove_flood()

    def _start_flood(self, size: int, seconds: float) -> subprocess.Popen[str]:
        command = ("python", "-c", _FLOOD_SCRIPT, self._key, str(size), str(seconds))
        return subprocess.Popen(
            ["docker", "exec", self.stack.container(self._wild.service), *command],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _try_to_wipe(self) -> str:
        """Try to delete everybody's data with the trader's own login, past its link and through it."""
        wild, keys = self._wild, int(self.stack.client(self.master).dbsize())
        for wipe in _WIPES:
            try:
                said = self.stack.client_as(self.master, wild.id, wild.service).execute_command(*wipe.split())
            except NoPermissionError:
                continue
            raise RuntimeError(f"{wild.id} may {wipe}: {said}")
        said = self.stack.execute(wild.service, "python", "-c", _THROUGH_THE_LINK, "FLUSHDB").strip()
        if "has no permissions to run the 'flushdb' command" not in said:
            raise RuntimeError(f"{wild.id} may FLUSHDB through its link: {said}")
        left = int(self.stack.client(self.master).dbsize())
        if left < keys / 2:
            raise RuntimeError(f"of {keys} keys {left} are left after {wild.id} has tried to wipe them")
        return f"{', '.join(_WIPES)}, and FLUSHDB through its link"

    def _fill_journal(self) -> str:
        """Cut it off and flood its link until that takes no more; return how full its journal is."""
        service = self._wild.service
        rules = partition.isolation(self.stack.subnet, [self.stack.gateway, self.stack.ip(service)])
        filters = partition.Filters(self.stack, {service: rules})
        try:
            filters.apply()
        finally:
            filters.discard()
        self._flood = self._start_flood(65536, _FILLED)

        def full() -> bool:
            link = self._wild.link()
            return bool(link["state"] == "holding" and link["journal"]["bytes"] >= 0.9 * link["journal"]["max_bytes"])

        wait_until(full, _FILLED, f"the journal of {service} is full", 0.2)
        journal = self._wild.link()["journal"]
        return f"{journal['bytes'] / 1e6:.0f} of {journal['max_bytes'] / 1e6:.0f} MB"

    def _remove_flood(self) -> None:
        self.stack.client(self.stack.master(), 10.0).delete(self._key)


FAULTS: tuple[type[Fault], ...] = (TradersIsolated,)
