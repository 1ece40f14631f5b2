"""The shell around ``sequencer`` and ``reads``: connections to the current master, made again for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from . import tls, wire
from .config import LinkConfig
from .credentials import auth, credentials
from .decisions import Decision, Halt, Ready, Reconnect
from .discovery import Discovery
from .errors import Blame, blame
from .events import event
from .force import ForceDecision
from .hold import Hold
from .losses import QuickLosses
from .reads import Reader
from .sentinels import SentinelWatch
from .sequencer import Phase, Sequencer
from .transmission import Transmission
from .url import Address

logger = logging.getLogger("link.upstream")

_COMPLAIN_INTERVAL = 5.0
#: Seconds without any progress on the read connection before it is made again; a big answer may take long.
_READ_TIMEOUT_FACTOR = 5.0
_TICK = 0.05
#: Seconds between attempts to connect to a node that refuses.
_RETRY = 0.03
#: A master that has not answered for so many seconds is suspected: the other nodes are asked for their role.
_SUSPICIOUS = 0.25
#: Seconds between attempts that only an operator can make succeed.
_OPERATOR_DELAY = 1.0
#: Sentinels announce a promotion within about a second; a node that they do not name after this is not the master.
_SETTLE_SECONDS = 3.0
#: Of what a server said last, at most so many bytes are looked at.
_LAST_WORD_BYTES = 4096
_LAST_ERROR = re.compile(rb"(?:^|\n)-([A-Z]+ [^\r\n]*)\r\n$")


class _Connection(asyncio.Protocol):
    """One TCP connection to the master; ``ended`` gets the decision that ends it."""

    def __init__(self, receive: Callable[[bytes], Decision | None], *, encrypted: bool) -> None:
        self._receive = receive
        self._hint = "" if encrypted else ": if its port wants TLS, use sentinels:// or rediss://"
        self.transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self.heard_at = time.monotonic()
        self.heard = False
        self._encrypted = encrypted
        self._transmission = Transmission()
        #: Nothing has been asked yet.
        self._unasked = True
        #: The error that the last bytes were, if they were one.
        self._error = ""
        #: Nothing but that has ever come.
        self._only_error = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # Send at once, not at the end of the loop's turn: Redis works while the link takes care of other clients.
        self.transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        self._error = _last_error(data)
        self._only_error = bool(self._error) and not self.heard and data.count(wire.CRLF) == 1
        self.heard = True
        if self._unasked and not self.ended.done():
            # Too many clients, or protected mode: Redis says so and closes.
            self.end(self._refused(self._error or "it speaks before it is asked: it is no Redis server"))
        elif not self.ended.done():
            decision = self._receive(data)
            if decision is not None and not isinstance(decision, Ready):
                self.end(decision)

    def connection_lost(self, exc: Exception | None) -> None:
        if problem := tls.problem(exc):
            self.end(Reconnect(problem, delay=_OPERATOR_DELAY, operator=True))
            return
        self._hear_the_rest()
        reason = f"connection lost: {exc}" if exc else "connection closed by the server"
        if self._only_error:
            self.end(self._refused(self._error))
        elif self.heard:
            self.end(Reconnect(f"{reason}: {self._error}" if self._error else reason))
        else:
            # Such a server does so every time: a port that wants TLS, or the other way round, or an address not bound.
            self.end(Reconnect(f"{reason} before it said a word{self._hint}", delay=_TICK))

    @staticmethod
    def _refused(error: str) -> Reconnect:
        return Reconnect(error, delay=_OPERATOR_DELAY, operator=blame(error) is Blame.COMMAND)

    def _hear_the_rest(self) -> None:
        """Take what the server said before it reset the connection: why.

        Whoever is still sending learns of the reset first, and the transport reads no more.
        """
        if self.ended.done() or self._encrypted or self.transport is None:
            return
        peer = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            if peer is not None and (data := os.read(peer.fileno(), _LAST_WORD_BYTES)):
                self.data_received(data)

    def end(self, decision: Decision) -> None:
        """End the connection with a decision; the first one counts."""
        if not self.ended.done():
            self.ended.set_result(decision)

    def moved_at(self, now: float) -> float:
        """Return when (monotonic seconds) bytes last came, or were seen to leave; to be asked at every tick."""
        if self.transport is None:
            return self.heard_at
        return max(self.heard_at, self._transmission.look(self.transport, now))

    def write(self, data: bytes) -> None:
        """Send bytes unless the connection has ended."""
        if data and self.transport is not None and not self.ended.done():
            self._unasked = False
            self.transport.write(data)

    def pause(self, paused: bool) -> None:
        """Read nothing for now, or read on."""
        if self.transport is None or self.transport.is_closing() or paused is not self.transport.is_reading():
            return
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection without waiting for what has not been sent."""
        if self.transport is not None:
            self.transport.abort()


class Upstream:
    """Keeps the sequencer and the reader connected to whichever node is the master."""

    def __init__(
        self,
        config: LinkConfig,
        sequencer: Sequencer,
        reader: Reader,
        discovery: Discovery,
        watch: SentinelWatch,
        *,
        before_send: Callable[[], bool],
        progressed: Callable[[], None],
    ) -> None:
        """``before_send`` puts the journal on disk and tells if that worked; ``progressed`` is called after acks."""
        self._config = config
        self._sequencer = sequencer
        self._reader = reader
        self._discovery = discovery
        self._watch = watch
        self._before_send = before_send
        self._progressed = progressed
        self._write: _Connection | None = None
        self._read: _Connection | None = None
        self._reads_task: asyncio.Task[None] | None = None
        #: Connections of single clients to the same master.
        self._sides: set[_Connection] = set()
        #: Set when the master has caught up.
        self._usable = asyncio.Event()
        self._epoch = -1
        self._connected_at = 0.0
        self._node: Address = ("", 0)
        self._pump_due = False
        self._complained_at = 0.0
        self._complained_of_reads_at = 0.0
        #: Why no master can be used until an operator mends it; or nothing.
        self.trouble = ""
        self.current: Address | None = None
        self.failovers = 0
        self.forced_failovers = 0
        self._hold = Hold(time.monotonic())
        self._force = ForceDecision(len(config.target.hosts))
        self._forcing: asyncio.Task[None] | None = None
        self._last_master: Address | None = None
        self._losses = QuickLosses()
        self._login = credentials(config.target)

    def auth(self) -> bytes:
        """Return the command that logs in at this moment; empty without a login."""
        return auth(self._login)

    @property
    def holds(self) -> int:
        """How often writes could not be applied, the start included."""
        return self._hold.count

    def hold_seconds(self, now: float) -> float:
        """Return for how long, in all, writes could not be applied."""
        return self._hold.seconds(now)

    def pump(self) -> None:
        """Send what is due once the current callbacks are done: what arrives together travels together."""
        if self._sequencer.alone:
            self._pump()
        elif not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        # Also while there is no master: what was accepted must not live in memory alone.
        written = self._before_send()
        # Read the clock behind it: a slow disk must not count against the master.
        now = time.monotonic()
        if written:
            if self._write is not None:
                self._write.write(self._sequencer.next_group(now))
            self._sequencer.deliver()
        self._send_reads(now)

    def _send_reads(self, now: float) -> None:
        if self._sequencer.caught_up and self._read is not None:
            self._read.write(self._reader.next_requests(now))

    async def run(self) -> None:
        """Connect, serve, and connect again, until the sequencer halts."""
        while True:
            node = self._pick()
            if node is None:
                await self._wait_for_news()
                continue
            decision = await self._serve(node)
            self._sequencer.disconnected()
            now = time.monotonic()
            # Once is enough for what happens again and again; ``_complain`` goes on telling.
            if self.current == node and not self._losses.worrying:
                logger.warning(
                    "lost master %s:%d: %s", *node, decision.reason, extra=event("lost_master", node=_shown(node))
                )
            delay = self._losses.lost(node, now - self._connected_at) if self.current == node else 0.0
            self.current = None
            self._note_hold(now)
            if isinstance(decision, Halt):
                logger.critical(
                    "halted: %s",
                    decision.reason,
                    extra=event(
                        "halted", cause=decision.cause.value, node=_shown(node), held=self._sequencer.unfinished
                    ),
                )
                return
            reconnect = decision
            self._discovery.connection_failed(node, now)
            self._watch.outage()
            if reconnect.refused:
                self._force.refused(node, now)
                self._force_failover(node, now)
            else:
                self._force.answered()
            if self._losses.worrying and delay:
                times = f"lost {self._losses.count} times, each time as soon as it was connected"
                reconnect = replace(reconnect, reason=f"{times}: {reconnect.reason}", operator=True)
            self.trouble = f"{node[0]}:{node[1]}: {reconnect.reason}" if reconnect.operator else ""
            self._complain(node, reconnect)
            await self._wait_for_news(max(reconnect.delay, delay, 0.01))

    def _pick(self) -> Address | None:
        candidates = self._discovery.candidates(time.monotonic())
        return candidates[0] if candidates else None

    async def _wait_for_news(self, seconds: float = _TICK) -> None:
        self._watch.changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._watch.changed.wait(), seconds)

    def _complain(self, node: Address, decision: Reconnect) -> None:
        now = time.monotonic()
        if now - self._complained_at > _COMPLAIN_INTERVAL:
            self._complained_at = now
            logger.warning(
                "holding %d writes: %s:%d: %s",
                self._sequencer.unfinished,
                *node,
                decision.reason,
                extra=event("holding", held=self._sequencer.unfinished, node=_shown(node)),
            )

    def _note_hold(self, now: float) -> None:
        works = self._sequencer.caught_up and self._sequencer.refused_since is None
        began = self._hold.since is None and not works
        lasted = self._hold.note(works, now)
        if began:
            logger.warning("writes are held", extra=event("hold_began", held=self._sequencer.unfinished))
        if lasted is not None:
            logger.info("writes are applied again after %.2f s", lasted, extra=event("hold_ended", seconds=lasted))

    def _force_failover(self, node: Address, now: float) -> None:
        """Give the order, if the user wants that, when all guards but the quorum's are passed."""
        discovery = self._discovery
        if not self._config.force_failover or (self._forcing is not None and not self._forcing.done()):
            return
        if self._force.due(discovery.named(), discovery.views.values(), now):
            self._forcing = asyncio.create_task(self._order_failover(node), name="force failover")

    async def _order_failover(self, node: Address) -> None:
        for sentinel, view in list(self._discovery.views.items()):
            if not view.lost or not await self._watch.quorum(sentinel):
                continue
            self._force.ordered(time.monotonic())
            answer = await self._watch.failover(sentinel)
            if answer == "OK":
                self.forced_failovers += 1
            logger.warning(
                "asked sentinel %s:%d for a failover: %s",
                *sentinel,
                answer,
                extra=event("forced_failover", sentinel=_shown(sentinel), node=_shown(node), answer=answer),
            )
            return

    # --- one connection ------------------------------------------------------------------------------------------

    async def _serve(self, node: Address) -> Reconnect | Halt:
        self._connected_at = time.monotonic()
        self._epoch = self._discovery.epoch
        connection = _Connection(self._received, encrypted=self._config.target.tls)
        failure = await self._connect(connection, node)
        if failure is not None:
            connection.abort()
            return failure
        self._node = node
        self._write = connection
        self._sequencer.auth = self.auth()
        connection.write(self._sequencer.connected(time.monotonic()))
        try:
            while not connection.ended.done():
                await asyncio.wait([connection.ended], timeout=_TICK)
                self._tend(connection, node)
            return cast(Reconnect | Halt, connection.ended.result())
        finally:
            self._write = None
            connection.abort()
            for side in list(self._sides):
                side.end(Reconnect("the master is looked for again"))
            if self._reads_task is not None:
                self._reads_task.cancel()
                await asyncio.gather(self._reads_task, return_exceptions=True)
                self._reads_task = None

    async def _connect(self, connection: _Connection, node: Address) -> Reconnect | None:
        loop = asyncio.get_running_loop()
        target, seconds = self._config.target, self._config.connect_timeout
        secured: dict[str, Any] = {}
        try:
            if target.tls:
                # The handshake takes an answer of the server itself, not only of its kernel.
                seconds = max(seconds, self._config.response_timeout)
                name = target.tls_settings.name(node[0])
                secured = {"ssl": tls.context(target.tls_settings), "server_hostname": name}
            attempt = asyncio.create_task(loop.create_connection(lambda: connection, node[0], node[1], **secured))
            if not await self._finished(attempt, node, seconds):
                return Reconnect("another node is the master", rediscover=True)
        except TimeoutError:
            missing = (
                "TLS handshake (if its port speaks plain text, use sentinel:// or redis://)"
                if secured
                else "connection"
            )
            return Reconnect(f"no {missing} within {seconds} s")
        except (OSError, tls.TlsError) as error:
            if problem := tls.problem(error):
                return Reconnect(problem, delay=_OPERATOR_DELAY, operator=True)
            reason = error.strerror if isinstance(error, OSError) else ""
            return Reconnect(f"no connection: {reason or error}", delay=_RETRY, refused=True)
        return None

    async def _finished(self, attempt: asyncio.Task[Any], node: Address, seconds: float) -> bool:
        """Await an attempt to connect; give it up, and return False, if another node turns out to be the master.

        A host that is gone answers nothing at all: without this the link would sit out the whole time for connecting
        while a promoted replica takes writes. Raises what the attempt raises, and ``TimeoutError``.
        """
        deadline = time.monotonic() + seconds
        try:
            while not attempt.done():
                await asyncio.wait([attempt], timeout=min(_TICK, max(deadline - time.monotonic(), 0.001)))
                now = time.monotonic()
                if not attempt.done() and now >= deadline:
                    raise TimeoutError
                if not attempt.done() and self._discovery.better_than(node, now) is not None:
                    return False
            attempt.result()
            return True
        finally:
            if not attempt.done():
                attempt.cancel()
                await asyncio.gather(attempt, return_exceptions=True)

    def _received(self, data: bytes) -> Decision | None:
        assert self._write is not None
        was_caught_up = self._sequencer.caught_up
        answer, decision = self._sequencer.receive(data, time.monotonic())
        if answer and self._before_send():
            self._write.write(answer)
        if isinstance(decision, Ready):
            self._became_ready(decision)
        if decision is None or isinstance(decision, Ready):
            if self._sequencer.caught_up and not was_caught_up:
                self._start_reads()
                self._usable.set()
            self._progressed()
            self._pump()
        elif self._before_send():
            self._sequencer.deliver()
        return decision

    def _became_ready(self, ready: Ready) -> None:
        node = self._node
        self.current = node
        if self._last_master not in (None, node):
            self.failovers += 1
            logger.warning(
                "the master is now %s:%d",
                *node,
                extra=event("failover", node=_shown(node), was=_shown(self._last_master), changes=self.failovers),
            )
        self._last_master = node
        self._discovery.connection_works()
        self._force.answered()
        self.trouble = ""
        if ready.warning:
            logger.error("master %s:%d: %s", *node, ready.warning, extra=event("marker_warning", node=_shown(node)))
        logger.info(
            "master %s:%d holds entries up to %d, replaying %d",
            *node,
            ready.marker,
            ready.replay,
            extra=event(
                "connected",
                node=_shown(node),
                marker=ready.marker,
                replay=ready.replay,
                held=self._sequencer.unfinished,
                changes=self.failovers,
                epoch=self._discovery.epoch,
            ),
        )

    def _tend(self, connection: _Connection, node: Address) -> None:
        """Notice a silent master, an idle one that died, and a newer word of the Sentinels."""
        now = time.monotonic()
        self._note_hold(now)
        since = self._sequencer.waiting_since()
        moved_at = connection.moved_at(now)
        silent = 0.0 if since is None else now - max(since, moved_at)
        if self._suspected(node, silent, now):
            connection.end(Reconnect("it does not answer, and another node is the master", rediscover=True))
            return
        if silent > self._config.response_timeout:
            connection.end(Reconnect(f"no answer within {self._config.response_timeout} s"))
            return
        if now - connection.heard_at > self._config.probe_interval:
            connection.write(self._sequencer.probe(now))
        named = self._discovery.named()
        epoch = self._discovery.epoch
        if named not in (None, node) and epoch > self._epoch:
            connection.end(Reconnect(f"the Sentinels name another master (epoch {epoch})", rediscover=True))
            return
        settled = self._connected_at + _SETTLE_SECONDS
        if now > settled and self._discovery.named_since(settled) not in (None, node):
            connection.end(Reconnect("the Sentinels go on naming another master, which is up", rediscover=True))
            return
        refused_since = self._sequencer.refused_since
        if refused_since is not None and now - refused_since > self._config.response_timeout:
            self._complain(node, Reconnect(f"it refuses writes: {self._sequencer.last_refusal}"))
        self._pump()

    def _suspected(self, node: Address, silent: float, now: float) -> bool:
        """Look for another master as soon as this one is slow to answer; tell whether there is one.

        A frozen master goes on accepting connections and says nothing, so waiting for its answer alone would find the
        promoted replica only after the bound for an answer, and after one more on the next connection to it.
        """
        if silent > _SUSPICIOUS:
            if self._discovery.outage_since is None:
                self._discovery.connection_failed(node, now)
            self._watch.outage()
            return self._discovery.better_than(node, now) is not None
        if self._sequencer.phase is Phase.READY and self._discovery.failed == node:
            self._discovery.connection_works()
        return False

    async def open_side(self, receive: Callable[[bytes], Decision | None]) -> _Connection | None:
        """Connect one client's own connection to the master, once there is one; None if that failed.

        It ends when the link gives up the master.
        """
        while not self._sequencer.caught_up:
            self._usable.clear()
            await self._usable.wait()
        node, serving = self._node, self._write
        connection = _Connection(receive, encrypted=self._config.target.tls)
        failure = await self._connect(connection, node)
        if failure is not None or self._write is not serving:
            connection.abort()
            return None
        self._sides.add(connection)
        connection.ended.add_done_callback(lambda _: self._sides.discard(connection))
        return connection

    # --- reads ---------------------------------------------------------------------------------------------------

    def _start_reads(self) -> None:
        if self._reads_task is None:
            self._reads_task = asyncio.create_task(self._serve_reads(self._node), name="reads")

    async def _serve_reads(self, node: Address) -> None:
        while True:
            connection = _Connection(self._reads_received, encrypted=self._config.target.tls)
            failure = await self._connect(connection, node)
            if failure is None:
                self._read = connection
                self._reader.auth = self.auth()
                connection.write(self._reader.connected(time.monotonic()))
                try:
                    while not connection.ended.done():
                        await asyncio.wait([connection.ended], timeout=_TICK)
                        since, now = self._reader.waiting_since(), time.monotonic()
                        moved_at = connection.moved_at(now)
                        bound = self._config.response_timeout * _READ_TIMEOUT_FACTOR
                        if since is not None and now - max(since, moved_at) > bound:
                            connection.end(Reconnect("no answer"))
                    failure = cast(Reconnect, connection.ended.result())
                finally:
                    self._read = None
                    self._reader.disconnected()
                    connection.abort()
            if time.monotonic() - self._complained_of_reads_at > _COMPLAIN_INTERVAL:
                self._complained_of_reads_at = time.monotonic()
                logger.warning(
                    "reads of %s:%d wait: %s",
                    *node,
                    failure.reason,
                    extra=event("reads_held", node=_shown(node), held=len(self._reader)),
                )
            await asyncio.sleep(_OPERATOR_DELAY if failure.operator else _TICK)

    def _reads_received(self, data: bytes) -> Decision | None:
        now = time.monotonic()
        decision = self._reader.receive(data, now)
        if decision is None:
            self._send_reads(now)
        return decision


def _last_error(data: bytes) -> str:
    """Return the error that bytes of a server end with, or nothing."""
    found = _LAST_ERROR.search(data[-_LAST_WORD_BYTES:])
    return found[1].decode(errors="replace") if found is not None else ""


def _shown(address: Address | None) -> str:
    return f"{address[0]}:{address[1]}" if address else ""
