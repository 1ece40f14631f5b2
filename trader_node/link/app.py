"""Wires the parts of a link together and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .certificates import Certificates
from .commands import StreamIds
from .config import LinkConfig
from .discovery import Discovery, SentinelView
from .entries import Write
from .errors import for_an_operator
from .events import event
from .health import write_health
from .http import serve_http, serve_metrics
from .journal import Journal
from .journal_file import JournalFile
from .metrics import LinkCollector
from .reads import Read, Reader
from .replicas import ReplicaMarkers
from .sentinels import SentinelWatch, UnknownMasterError
from .sequencer import Phase, Sequencer
from .server import Client
from .server_bounds import ServerBounds
from .session import Session
from .side import SideConnection
from .state import LinkState
from .stream_appends import seed as seed_stream_ids
from .upstream import Upstream
from .waiting import WaitingRoom

logger = logging.getLogger("link")

_COMPLAIN_INTERVAL = 5.0
_TRIM_INTERVAL = 1.0
#: Seconds between two looks for room in a full journal.
_FULL_INTERVAL = 0.1
#: Part of its bound that a full journal is brought down to, where its entries may be forgotten early.
_ROOMY = 0.9
#: Seconds that an entry is kept however full the journal is: Redis forces what it has written to disk once a second.
_LEAST_AGE = 1.0
#: Seconds after which servers are asked for their certificates again.
_CERTIFICATES_INTERVAL = 60.0
_COMPLAIN_OF_SIZE_INTERVAL = 60.0
#: While every node answers, a full journal has room again within so many seconds, or something is wrong.
_ROOM_SECONDS = 3.0
_HELD_INTERVAL = 0.05
_HEALTH_INTERVAL = 1.0
#: Seconds within which the event loop has to answer a question over HTTP.
_STATUS_TIMEOUT = 2.0
#: Seconds between two looks for what others have written to keys that clients wait for.
_LOOK_INTERVAL = 0.05


class Link:
    """A running link: the hub of its sessions."""

    def __init__(self, config: LinkConfig) -> None:
        """Open the journal. Raises ``JournalError`` if it cannot be used."""
        self._config = config
        self.marker_key = config.marker_key.encode()
        self.stream_ids = StreamIds()
        self.login = config.login
        self.allowance = config.allowance
        self.first_db = config.target.db
        self.waiting = WaitingRoom(self._accept, self.submit_read, self.call_later, lambda: self.sequencer.caught_up)
        self._file: JournalFile | None = None
        journal, state = Journal(), LinkState(incarnation=1)
        if config.journal_dir is not None:
            self._file = JournalFile(
                config.journal_dir,
                fsync=config.fsync,
                segment_bytes=config.segment_bytes,
                marker_key=config.marker_key,
            )
            journal, state = self._file.open(), self._file.state
            if self._file.torn_bytes:
                logger.warning(
                    "journal: cut a torn record of %d bytes at the end",
                    self._file.torn_bytes,
                    extra=event("journal_torn", bytes=self._file.torn_bytes),
                )
            logger.info(
                "journal: %d entries, %d to %d",
                len(journal),
                journal.first_seq,
                journal.last_seq,
                extra=event(
                    "journal_opened",
                    entries=len(journal),
                    first=journal.first_seq,
                    last=journal.last_seq,
                    bytes=journal.size_bytes,
                    fsync=config.fsync.value,
                ),
            )
        else:
            logger.warning(
                "NO JOURNAL ON DISK: accepted writes are kept in memory only, and those that Redis has not applied, or "
                "loses in a failover, die with this process; set LINK_JOURNAL_DIR (--journal-dir)",
                extra=event("journal_in_memory"),
            )
        entries = reversed(journal.range(journal.first_seq, journal.last_seq))
        seed_stream_ids(self.stream_ids, (entry.payload for entry in entries), self.wall_clock_ms())
        self.sequencer = Sequencer(
            journal,
            state,
            config.marker_key,
            log=self._file,
            on_gap=config.on_gap,
            on_oom=config.on_oom,
            adopt=config.adopt,
            nonce=secrets.token_hex(4),
        )
        self.reader = Reader()
        self.discovery = Discovery()
        self.watch = SentinelWatch(config.target, self.discovery)
        self.certificates = Certificates(config.target.tls_settings)
        self.replicas = ReplicaMarkers(config.target, config.marker_key, state.journal_id)
        self.upstream = Upstream(
            config,
            self.sequencer,
            self.reader,
            self.discovery,
            self.watch,
            before_send=self._before_send,
            progressed=self._progressed,
        )
        if not config.target.sentinel:
            node = config.target.hosts[0]
            self.discovery.sentinel_said(node, SentinelView(node, 0, time.monotonic()))
        self._clients: dict[int, Client] = {}
        self._no_clients = asyncio.Event()
        self._no_clients.set()
        #: Clients that are gone while whole commands of theirs still wait to be accepted.
        self._departed: list[Client] = []
        self._next_client_id = 1
        self._draining = False
        #: A client was told to wait because the journal is full.
        self._room_wanted = asyncio.Event()
        self._forgotten_early = 0
        #: Monotonic time by which a full journal should have room again, if that can be told.
        self._room_by: float | None = None
        self._complained_of_size_at = time.monotonic() - _COMPLAIN_OF_SIZE_INTERVAL
        self._disk_error = ""
        self._was_accepting = False
        # A master is usually found at once: the first complaint is due only when it is not.
        self._complained_at = time.monotonic() - _COMPLAIN_INTERVAL + 1.0
        self.started_at = time.time()

    # --- what sessions need --------------------------------------------------------------------------------------

    @property
    def databases(self) -> int:
        """How many databases the server has; the setting where it does not tell."""
        return self.sequencer.databases or self._config.databases

    @property
    def server_bounds(self) -> ServerBounds:
        """What the server can read."""
        return self.sequencer.bounds

    def may_accept(self) -> bool:
        """Whether a write may be accepted now; once the answer was no, waiting clients are resumed at the next yes."""
        if self.sequencer.numbered and not self._disk_error and not self._journal_full:
            return True
        self._was_accepting = False
        if self._journal_full:
            self._room_wanted.set()
        return False

    @property
    def _journal_full(self) -> bool:
        return self.sequencer.journal.size_bytes >= self._config.journal_max_bytes

    def wall_clock_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def submit_write(self, write: Write) -> None:
        """Accept a write."""
        self._accept(write)
        if self.waiting:
            self.waiting.wrote(write.payload)

    def _accept(self, write: Write) -> None:
        self.sequencer.accept(write, time.monotonic())
        self.upstream.pump()

    def submit_read(self, read: Read) -> None:
        """Take a read."""
        self.reader.submit(read)
        self.upstream.pump()

    def open_side(self, greet: Callable[[], bytes], take: Callable[[bytes], None]) -> SideConnection:
        """Open a connection to the master for one client."""
        return SideConnection(self.upstream.open_side, self.upstream.auth, greet, take)

    def call_later(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call a function later; return what cancels it."""
        return asyncio.get_running_loop().call_later(seconds, function).cancel

    def sessions(self) -> Iterator[Session]:
        """Iterate over the sessions of all clients."""
        return (client.session for client in self._clients.values() if client.session is not None)

    def opened(self, client: Client) -> int:
        """Take a new client; return its id."""
        self._no_clients.clear()
        client_id, self._next_client_id = self._next_client_id, self._next_client_id + 1
        self._clients[client_id] = client
        return client_id

    def closed(self, client: Client) -> None:
        """Forget a client, unless whole commands of it still wait."""
        self._clients = {number: other for number, other in self._clients.items() if other is not client}
        if not self._clients:
            self._no_clients.set()
        self._departed = [other for other in [*self._departed, client] if other.session and other.session.backlog]

    # --- what the upstream needs ---------------------------------------------------------------------------------

    def _before_send(self, *, everything: bool = False) -> bool:
        """Put the journal on disk before anything is sent; on a full disk hold everything.

        ``everything``: also what nothing that is sent depends on.
        """
        if self._file is None:
            self.sequencer.state_changed = False
            return True
        try:
            if self.sequencer.state_changed:
                self._file.save_state()
                self.sequencer.state_changed = False
            self._file.flush(self.sequencer.journal.last_seq + 1, everything=everything)
        except OSError as error:
            if not self._disk_error:
                logger.critical(
                    "journal: cannot write: %s: clients wait until it can",
                    error,
                    extra=event("journal_error", error=error),
                )
            self._disk_error = str(error)
            return False
        if self._disk_error:
            logger.warning("journal: can write again", extra=event("journal_works"))
            self._disk_error = ""
        return True

    def _progressed(self) -> None:
        if self.may_accept() and not self._was_accepting:
            self._resume_clients()
        self._was_accepting = self.may_accept()

    def _resume_clients(self) -> None:
        for client in [*self._clients.values(), *self._departed]:
            if client.session is not None:
                client.session.resume()
                client.regulate()
        self._departed = [client for client in self._departed if client.session and client.session.backlog]

    # --- running -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ``UnknownMasterError`` or ``OSError`` if it cannot start."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        host, port = self._config.listen
        server = await loop.create_server(lambda: Client(self, self), host, port)
        host, port = server.sockets[0].getsockname()[:2]

        def ask() -> dict[str, Any]:
            return asyncio.run_coroutine_threadsafe(self._status(), loop).result(_STATUS_TIMEOUT)

        collector = LinkCollector(ask, self.sequencer.latency)
        if self._config.http is not None:
            serve_http(self._config.http, ask, collector)
        if self._config.metrics is not None:
            serve_metrics(self._config.metrics, collector)
        logger.info(
            "listening on %s:%d, following %s",
            host,
            port,
            self._config.target,
            extra=event(
                "listening",
                address=_shown((host, port)),
                target=self._config.target,
                id=self._config.link_id,
                on_gap=self._config.on_gap.value,
                on_oom=self._config.on_oom.value,
            ),
        )
        if self._config.target.sentinel:
            self.watch.start()
        tasks = [
            asyncio.create_task(self.upstream.run(), name="upstream"),
            asyncio.create_task(self._maintain(), name="maintain"),
            asyncio.create_task(self._look_for_waiting(), name="look for waiting clients"),
        ]
        if self._config.target.tls:
            tasks.append(asyncio.create_task(self._look_at_certificates(), name="look at certificates"))
        if self._config.health_file is not None:
            tasks.append(asyncio.create_task(self._tell_health(self._config.health_file), name="health file"))
        after = self._config.acknowledge_held_after
        if after is not None:
            tasks.append(asyncio.create_task(self._acknowledge_held(after), name="acknowledge held"))
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            waiting = {stopped, *tasks}
            while not stopped.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    # A halted upstream ends its task and is no reason to leave: clients keep waiting, health is red.
                    # Any other end is an error, and the supervisor starts the link again.
                    task.result()
        finally:
            server.close()
            await self._drain()
            for task in [*tasks, stopped]:
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
            await self.watch.stop()
            await self.replicas.stop()
            if self._file is not None:
                self._before_send(everything=True)
                self._file.close()

    async def _look_at_certificates(self) -> None:
        while True:
            await self.certificates.refresh({*self._config.target.hosts, *self.discovery.nodes})
            await asyncio.sleep(_CERTIFICATES_INTERVAL)

    async def _maintain(self) -> None:
        """Trim the journal, retry a full disk, and complain about what an operator should know."""
        late_errors = 0
        while True:
            self._room_wanted.clear()
            if self._config.target.sentinel and not self.sequencer.numbered:
                self.watch.check_master_name()
            if self.sequencer.numbered:
                await self.replicas.refresh(self.discovery.nodes)
                before = time.monotonic() - self._config.journal_min_age
                held = self.replicas.held_everywhere(self._config.journal_min_age)
                trimmed = self.sequencer.trim(held, before)
                if self._journal_full and not self.replicas.silent:
                    trimmed += self._give_way()
                else:
                    self._room_by = None
                    trimmed += self._make_room(before) if self._journal_full else 0
                if trimmed and self._file is not None:
                    self._file.trim(self.sequencer.journal.first_seq)
            elif (
                self.sequencer.phase is not Phase.HALTED and time.monotonic() - self._complained_at > _COMPLAIN_INTERVAL
            ):
                self._complained_at = time.monotonic()
                logger.warning(
                    "waiting for a master of %s",
                    self._config.target,
                    extra=event(
                        "waiting_for_master", sentinels=len(self.watch.reachable), of=len(self._config.target.hosts)
                    ),
                )
            self._before_send(everything=True)
            if self._trouble and time.monotonic() - self._complained_at > _COMPLAIN_INTERVAL:
                self._complained_at = time.monotonic()
                logger.error("%s", self._trouble, extra=event("trouble", bytes=self.sequencer.journal.size_bytes))
            if self.sequencer.counters.late_errors != late_errors:
                late_errors = self.sequencer.counters.late_errors
                logger.error(
                    "%d writes that were answered from the journal failed when they were applied; the last: %s",
                    late_errors,
                    self.sequencer.last_refusal,
                    extra=event("late_errors", total=late_errors),
                )
            self._progressed()
            interval = _TRIM_INTERVAL if self.sequencer.numbered else _TRIM_INTERVAL / 5
            await asyncio.sleep(_FULL_INTERVAL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room_wanted.wait(), interval - _FULL_INTERVAL)

    async def _look_for_waiting(self) -> None:
        """See what others have written to keys that clients wait for."""
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            if self.waiting and self.sequencer.caught_up:
                self.waiting.look()

    def _make_room(self, accepted_before: float) -> int:
        """Forget what only nodes that are down may lack, rather than stop for as long as they are."""
        held = self.replicas.held_by_answering(self._config.journal_min_age)
        trimmed = self.sequencer.trim(held, accepted_before)
        if trimmed:
            logger.error(
                "journal: full: forgot %d entries that %s may lack: should it become master like that, the link halts",
                trimmed,
                ", ".join(_shown(node) for node in sorted(self.replicas.silent)),
                extra=event("journal_forgot", entries=trimmed),
            )
        return trimmed

    def _give_way(self) -> int:
        """Keep the oldest entries for less than their minimum age, where every known node answers and holds them.

        Clients would wait for that minute otherwise, though nothing is wrong. What is given up is only that all nodes
        may lose at once what none of them had forced to its disk.
        """
        journal, bound = self.sequencer.journal, self._config.journal_max_bytes
        enough = journal.end_of_oldest(journal.size_bytes - int(bound * _ROOMY))
        held = min(self.replicas.held_while_all_answer(_LEAST_AGE), enough)
        trimmed = self.sequencer.trim(held, time.monotonic() - _LEAST_AGE)
        self._forgotten_early += trimmed
        now = time.monotonic()
        if trimmed or self._room_by is None:
            self._room_by = now + _ROOM_SECONDS
        if trimmed and now - self._complained_of_size_at > _COMPLAIN_OF_SIZE_INTERVAL:
            self._complained_of_size_at = now
            logger.warning(
                "journal: full with %d bytes: entries that every node has are kept for %.1f s only, not for %g s; for "
                "so many writes raise LINK_JOURNAL_MAX_BYTES",
                bound,
                self._journal_age(),
                self._config.journal_min_age,
                extra=event("journal_small", entries=trimmed, max_bytes=bound, seconds=round(self._journal_age(), 1)),
            )
        return trimmed

    async def _acknowledge_held(self, after: float) -> None:
        """Answer from the journal what has waited for ``after`` seconds."""
        while True:
            await asyncio.sleep(_HELD_INTERVAL)
            if self.sequencer.unfinished and self._before_send():
                told = self.sequencer.acknowledge_held(time.monotonic() - after)
                if told:
                    logger.info("answered %d entries from the journal", told, extra=event("told_early", entries=told))

    async def _tell_health(self, path: Path) -> None:
        complained = False
        while True:
            status = self.status()
            try:
                write_health(path, healthy=status["healthy"], state=status["state"], reason=status["reason"])
                complained = False
            except OSError as error:
                if not complained:
                    logger.warning("health file: %s", error, extra=event("health_file_error", path=path))
                complained = True
            await asyncio.sleep(_HEALTH_INTERVAL)

    async def _status(self) -> dict[str, Any]:
        return self.status()

    async def _drain(self) -> None:
        self._draining = True
        logger.info(
            "stopping: %d writes are unfinished, waiting at most %g s for them",
            self.sequencer.unfinished,
            self._config.drain_timeout,
            extra=event("stopping", unfinished=self.sequencer.unfinished),
        )
        for client in self._clients.values():
            client.stop_reading()
        deadline = time.monotonic() + self._config.drain_timeout
        while self.sequencer.unfinished and self.sequencer.phase is not Phase.HALTED:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.01)
        left = self.sequencer.unfinished
        if left and self._file is not None:
            logger.warning(
                "leaving %d writes in the journal: the next start sends them", left, extra=event("drained", left=left)
            )
        elif left:
            logger.error(
                "leaving, and %d writes are LOST: there is no journal on disk to keep them",
                left,
                extra=event("drained", left=left, lost=left),
            )
        else:
            logger.info("drained: every accepted write is applied", extra=event("drained", left=0))
        for client in self._clients.values():
            client.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._no_clients.wait(), 0.5)

    @property
    def _trouble(self) -> str:
        """What keeps the link from accepting writes or from keeping them safe, though it runs; or nothing."""
        if self._disk_error:
            return f"journal: cannot write: {self._disk_error}"
        if self._file is not None and self._file.sync_error is not None:
            return f"journal: cannot force to disk: {self._file.sync_error}"
        if self._journal_full and (self._room_by is None or time.monotonic() > self._room_by):
            lagging = ", ".join(_shown(node) for node in sorted(self.replicas.silent)) or "none"
            return (
                f"journal: full with {self.sequencer.journal.size_bytes} bytes, clients wait: entries stay until every "
                f"known node has them; not answering: {lagging}"
            )
        return ""

    def _journal_age(self) -> float:
        """Return the age of the oldest entry in seconds."""
        journal = self.sequencer.journal
        return max(time.monotonic() - journal.entry(journal.first_seq).accepted_at, 0.0) if len(journal) else 0.0

    @property
    def _refusal(self) -> str:
        """What keeps the link from the master until an operator mends it, or nothing; it is logged where it happens."""
        sequencer, since = self.sequencer, self.sequencer.refused_since
        refusal = "" if sequencer.caught_up else self.upstream.trouble or self.watch.trouble
        # A client's own mistake is answered at once: a refusal that lasts is about the link's own commands.
        lasts = since is not None and time.monotonic() - since > self._config.response_timeout
        if lasts and for_an_operator(sequencer.last_refusal):
            refusal = f"{_shown(self.upstream.current)}: {sequencer.last_refusal}"
        return f"holding {sequencer.unfinished} writes: {refusal}" if refusal else ""

    def status(self) -> dict[str, Any]:
        """Return the state for health checks, metrics and people; holds no data and no password."""
        sequencer = self.sequencer
        counters = sequencer.counters
        trouble = self._trouble or self._refusal
        works = sequencer.caught_up and sequencer.refused_since is None
        state = "halted" if sequencer.phase is Phase.HALTED else "ready" if works else "holding"
        if self._draining:
            state = "draining"
        return {
            "state": state,
            "healthy": sequencer.phase is not Phase.HALTED and not trouble,
            "reason": sequencer.halt_reason or trouble,
            "halt_cause": sequencer.halt_cause.value if sequencer.halt_cause is not None else "",
            "gap_lost": counters.gap_lost,
            "gap_unsure": counters.gap_unsure,
            "target": str(self._config.target),
            "master": _shown(self.upstream.current),
            "master_changes": self.upstream.failovers,
            "forced_failovers": self.upstream.forced_failovers,
            "holds": self.upstream.holds,
            "hold_seconds": self.upstream.hold_seconds(time.monotonic()),
            "last_refusal": sequencer.last_refusal,
            "accepted": counters.accepted,
            "acknowledged": counters.acknowledged,
            "replayed": counters.replayed,
            "refused": counters.refused,
            "fenced": counters.fenced,
            "lost_replies": counters.lost_replies,
            "told_early": counters.told_early,
            "late_errors": counters.late_errors,
            "markers_restored": counters.markers_restored,
            "forgotten_early": self._forgotten_early,
            "handshakes": counters.handshakes,
            "unfinished": sequencer.unfinished,
            "reads_waiting": len(self.reader),
            "clients": len(self._clients),
            "applied_seq": sequencer.applied,
            "journal": {
                "id": sequencer.state.journal_id,
                "incarnation": sequencer.state.incarnation,
                "entries": len(sequencer.journal),
                "first_seq": sequencer.journal.first_seq,
                "last_seq": sequencer.journal.last_seq,
                "bytes": sequencer.journal.size_bytes,
                "max_bytes": self._config.journal_max_bytes,
                "on_disk": self._file is not None,
                "writable": not self._disk_error and (self._file is None or self._file.sync_error is None),
                "age_seconds": self._journal_age(),
            },
            "markers": {_shown(node): seq for node, seq in sorted(self.replicas.seen.items())},
            "silent_nodes": [_shown(node) for node in sorted(self.replicas.silent)],
            "certificates": self.certificates.not_after(),
            "started_at": self.started_at,
            "pid": os.getpid(),
        }


def _shown(address: tuple[str, int] | None) -> str:
    return f"{address[0]}:{address[1]}" if address else ""


__all__ = ["Link", "UnknownMasterError"]
