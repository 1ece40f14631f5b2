"""The shell around ``discovery``: connections to the Sentinels and, during an outage, to the nodes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from . import access, tls
from .credentials import credentials
from .discovery import Discovery, SentinelView
from .events import event
from .force import quorum_reachable
from .secured import over_tls
from .url import Address, RedisTarget

logger = logging.getLogger("link.sentinels")

#: Seconds between questions to a Sentinel, in quiet times and during an outage.
_CALM_INTERVAL, _OUTAGE_INTERVAL = 1.0, 0.05
#: Seconds within which a Sentinel or a node has to answer.
_TIMEOUT = 1.0
_PROBE_TIMEOUT = 0.3
_COMPLAIN_INTERVAL = 5.0


class UnknownMasterError(RuntimeError):
    """A majority of the Sentinels does not know the master's name."""


class SentinelWatch:
    """Keeps ``discovery`` up to date; ``changed`` is set whenever a better answer may be there."""

    def __init__(self, target: RedisTarget, discovery: Discovery) -> None:
        self._target = target
        self._discovery = discovery
        self._tasks: list[asyncio.Task[None]] = []
        self._probes: dict[Address, asyncio.Task[None]] = {}
        self._unknown: set[Address] = set()
        self.changed = asyncio.Event()
        self._wake = asyncio.Event()
        #: Sentinels that answer at the moment.
        self.reachable: set[Address] = set()
        #: Why a Sentinel refuses the link, or the link a Sentinel, where only an operator can mend it.
        self._refusals: dict[Address, str] = {}
        #: Sentinels that have ever answered.
        self._known: set[Address] = set()

    def start(self) -> None:
        """Start asking and listening."""
        for address in self._target.hosts:
            self._tasks.append(asyncio.create_task(self._ask(address), name=f"ask {address}"))
            self._tasks.append(asyncio.create_task(self._listen(address), name=f"listen {address}"))

    async def stop(self) -> None:
        """Close all connections."""
        tasks = [*self._tasks, *self._probes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def outage(self) -> None:
        """Ask often and probe the nodes until the link works again."""
        self._wake.set()
        for node in self._discovery.to_probe() - self._probes.keys():
            self._probes[node] = asyncio.create_task(self._probe(node), name=f"probe {node}")

    @property
    def trouble(self) -> str:
        """Why no majority of the Sentinels can be asked, if an operator has to mend it; or nothing."""
        if len(self._refusals) * 2 <= len(self._target.hosts):
            return ""
        address, reason = next(iter(self._refusals.items()))
        return f"sentinel {address[0]}:{address[1]}: {reason}"

    @property
    def _hint(self) -> str:
        """What may be wrong with a Sentinel that has never answered: neither side of such a mistake says a word."""
        if self._target.tls:
            return " (if its port speaks plain text, use sentinel://)"
        return " (if its port wants TLS, use sentinels://)"

    async def quorum(self, sentinel: Address) -> bool:
        """Ask a Sentinel whether it could reach a quorum and a majority for a failover."""
        return quorum_reachable(await self._once(sentinel, "SENTINEL", "CKQUORUM", self._target.master_name))

    async def failover(self, sentinel: Address) -> str:
        """Order a failover at a Sentinel; return its answer or the error."""
        return str(await self._once(sentinel, "SENTINEL", "FAILOVER", self._target.master_name))

    async def _once(self, sentinel: Address, *arguments: str) -> object:
        connection = connect(sentinel, _TIMEOUT, self._target, sentinel=True)
        try:
            return await _command(connection, *arguments)
        except (RedisError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            await close(connection)

    def check_master_name(self) -> None:
        """Raise ``UnknownMasterError`` if a majority of the Sentinels does not know the master's name."""
        if len(self._unknown) * 2 > len(self._target.hosts):
            raise UnknownMasterError(
                f"master name {self._target.master_name!r} is unknown to {len(self._unknown)} of "
                f"{len(self._target.hosts)} Sentinels: put the name that they monitor at the end of {self._target}"
            )

    async def _ask(self, address: Address) -> None:
        complained_at = 0.0
        while True:
            connection = connect(address, _TIMEOUT, self._target, sentinel=True)
            try:
                while True:
                    await self._ask_once(address, connection)
                    self._refusals.pop(address, None)
                    self._known.add(address)
                    await self._pause()
            except (RedisError, OSError, ValueError, TypeError, KeyError) as error:
                self.reachable.discard(address)
                self._discovery.sentinel_lost(address)
                refusal = refusal_of(error, access.SENTINEL_USERNAME, access.SENTINEL_PASSWORD)
                if refusal:
                    self._refusals[address] = refusal
                else:
                    self._refusals.pop(address, None)
                if time.monotonic() - complained_at > _COMPLAIN_INTERVAL:
                    complained_at = time.monotonic()
                    hint = "" if refusal or address in self._known else self._hint
                    logger.warning(
                        "sentinel %s:%d does not answer: %s%s",
                        *address,
                        refusal or error,
                        hint,
                        extra=event("sentinel_silent", sentinel=f"{address[0]}:{address[1]}"),
                    )
                await asyncio.sleep(_CALM_INTERVAL if refusal else _OUTAGE_INTERVAL * 2)
            finally:
                await close(connection)

    async def _ask_once(self, address: Address, connection: Redis) -> None:
        name = self._target.master_name
        try:
            master = _pairs(await _command(connection, "SENTINEL", "MASTER", name))
            replicas = await _command(connection, "SENTINEL", "REPLICAS", name)
        except ResponseError as error:
            if "No such master" not in str(error):
                raise
            self._unknown.add(address)
            self._discovery.sentinel_lost(address)
            self.changed.set()
            return
        self._unknown.discard(address)
        self.reachable.add(address)
        before = self._discovery.named()
        flags = set(master["flags"].split(","))
        self._discovery.sentinel_said(
            address,
            SentinelView(
                master=(master["ip"], int(master["port"])),
                config_epoch=int(master["config-epoch"]),
                at=time.monotonic(),
                down="s_down" in flags,
                lost=bool(flags & {"disconnected", "s_down", "o_down"}),
                failing_over="failover_in_progress" in flags,
            ),
        )
        listed = [_pairs(replica) for replica in replicas]
        self._discovery.nodes_named(address, {(replica["ip"], int(replica["port"])) for replica in listed})
        for node in self._discovery.forget_removed(len(self._target.hosts), time.monotonic()):
            logger.warning(
                "node %s:%d is on no Sentinel's list any more: nothing is kept for it, and if it ever comes back as "
                "the master with data from before the journal begins, this link halts",
                *node,
                extra=event("node_removed", node=f"{node[0]}:{node[1]}"),
            )
        if self._discovery.named() != before:
            self.changed.set()
        if self._discovery.outage_since is not None:
            self.outage()

    async def _pause(self) -> None:
        if self._discovery.outage_since is not None:
            await asyncio.sleep(_OUTAGE_INTERVAL)
            return
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), _CALM_INTERVAL)

    async def _listen(self, address: Address) -> None:
        while True:
            # No timeout: silence is the normal state here, and _ask notices a Sentinel that is gone.
            connection = connect(address, None, self._target, sentinel=True)
            pubsub = connection.pubsub()
            try:
                await pubsub.subscribe("+switch-master")
                async for message in pubsub.listen():
                    if message["type"] == "message" and message["data"].split()[:1] == [self._target.master_name]:
                        # The announcement has no epoch: take it as a reason to ask right now.
                        logger.info(
                            "sentinel %s:%d announces %s", *address, message["data"], extra=event("switch_master")
                        )
                        self._wake.set()
            except (RedisError, OSError):
                await asyncio.sleep(_CALM_INTERVAL)
            finally:
                await pubsub.aclose()  # type: ignore[no-untyped-call]
                await close(connection)

    async def _probe(self, node: Address) -> None:
        connection = connect(node, _PROBE_TIMEOUT, self._target)
        try:
            while node in self._discovery.to_probe():
                try:
                    role = await _command(connection, "ROLE")
                    master = role[0] == "master"
                    known = node in self._discovery.masters_seen
                    self._discovery.node_said(node, master=master, now=time.monotonic())
                    if master and not known:
                        self.changed.set()
                except (RedisError, OSError):
                    await connection.connection_pool.disconnect()
                await asyncio.sleep(_OUTAGE_INTERVAL / 2)
        finally:
            self._probes.pop(node, None)
            await close(connection)


def connect(address: Address, timeout: float | None, target: RedisTarget, *, sentinel: bool = False) -> Redis:
    """Return a control connection to a node or a Sentinel that fails at once instead of trying again by itself.

    ``timeout`` (seconds) bounds connecting and each answer; None: no bound.
    """
    connection = Redis(
        host=address[0],
        port=address[1],
        credential_provider=credentials(target, sentinel=sentinel),
        socket_connect_timeout=timeout or _TIMEOUT,
        socket_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        lib_name=None,
        lib_version=None,
    )
    if target.tls:
        over_tls(connection, target.tls_settings)
    return connection


def refusal_of(error: BaseException, username: str, password: str) -> str:
    """Return what an operator has to mend before a server can be used; empty if it is nothing of that kind.

    ``username`` and ``password`` are the settings that hold the login for it.
    """
    if isinstance(error, AuthenticationError | NoPermissionError):
        return f"it refuses the login ({error}): check {username}, {password} and the rights of that user"
    return tls.problem(error)


async def _command(connection: Redis, *arguments: str) -> Any:
    """Send a command and return the reply as it is; redis-py's own methods turn some into other shapes."""
    return await connection.execute_command(*arguments)  # type: ignore[no-untyped-call]


async def close(connection: Redis) -> None:
    """Close a control connection; that it is broken already is no error."""
    with contextlib.suppress(RedisError, OSError):
        await connection.aclose()


def _pairs(reply: object) -> Mapping[str, str]:
    """Return the flat list of names and values that Sentinel answers with as a mapping."""
    if isinstance(reply, Mapping):
        return {str(name): str(value) for name, value in reply.items()}
    if not isinstance(reply, list):
        raise TypeError(f"unexpected answer of type {type(reply).__name__}")
    return dict(zip(reply[::2], reply[1::2], strict=True))
