"""Redis that survives failovers, for people with their own node script.

.. code-block:: python

    from trader_node.database import database_config

    CacheConfig(
        database=database_config(host="sentinel://s1:26379,s2:26379,s3:26379", password="secret", timeout=2),
        encoding="msgpack",
        buffer_interval_ms=100,
    )
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from nautilus_trader.config import DatabaseConfig

from trader_node.link.access import AccessError, read_login, read_target
from trader_node.link.url import RedisTarget, RedisUrlError, parse_redis_url
from trader_node.link_process import LinkError, LinkProcess, access_environment, free_port, launcher
from trader_node.node_config import tuned_database
from trader_node.redis_access import RedisAccessError, find_master

_START_SECS = 15.0


class DatabaseError(ValueError):
    """The database cannot be used as given; the message names the part and what to do, never the password."""


@dataclass(frozen=True, slots=True)
class _Running:
    process: LinkProcess
    port: int


_lock = threading.Lock()
_links: dict[tuple[str, str], _Running] = {}


def database_config(
    host: str,
    port: int | None = None,
    username: str | None = None,
    password: str | None = None,
    timeout: int = 20,
    *,
    type: str = "redis",
    trader_id: str = "TRADER-001",
    journal_dir: str | os.PathLike[str] | None = None,
    check: bool = True,
) -> DatabaseConfig:
    """Start a link to Redis and return the Nautilus configuration that uses it.

    The link is a child process on a free loopback port. It is started once per target and trader id, started again if
    it dies, and drained when this process ends; what it has not handed to Redis by then is in its journal, and the next
    start hands it over. Certificates, the login of the Sentinels and the one that the link asks for are those of the
    environment (``REDIS_TLS_*``, ``REDIS_SENTINEL_*``, ``LINK_CLIENT_*``).

    Parameters
    ----------
    host
        ``sentinel://host:port,host:port,host:port[/master-name]`` (the master name is ``mymaster`` by default), or
        ``redis://host:port[/db]``, or a plain host name of a single Redis.
    port
        For a plain host name only; 6379 by default.
    username, password
        Of the Redis nodes, unless the URL holds them.
    timeout
        Seconds to wait for a new connection; Nautilus' ``connection_timeout``.
    type
        ``redis``, the only database that Nautilus has.
    trader_id
        Names the link: one process per trader id may write.
    journal_dir
        Directory of the link's journal; by default ``~/.local/state/trader-link/<trader id>``.
    check
        Ask the Sentinels now, and raise if none answers. Without it an unreachable Redis is waited for.

    Raises
    ------
    DatabaseError
        If the URL is wrong, the master name is unknown, no Sentinel answers, or the link does not start.

    """
    if type != "redis":
        raise DatabaseError(f"type={type!r} is not supported by Nautilus: use 'redis'")
    url, target = _target(host, port, username, password)
    try:
        login = read_login(os.environ)
    except AccessError as error:
        raise DatabaseError(str(error)) from None
    if check and target.sentinel:
        try:
            find_master(target)
        except RedisAccessError as error:
            raise DatabaseError(str(error)) from None
    journal = Path(journal_dir) if journal_dir is not None else _default_journal(trader_id)
    with _lock:
        running = _links.get((url, trader_id))
        if running is None:
            running = _links[(url, trader_id)] = _start(url, trader_id, journal)
    if login is None:
        return tuned_database("127.0.0.1", running.port, connection_timeout=timeout)
    return tuned_database(
        "127.0.0.1", running.port, connection_timeout=timeout, username=login.username, password=login.password
    )


def _start(url: str, trader_id: str, journal: Path) -> _Running:
    port = free_port()
    process = LinkProcess(launcher(url, port, journal, trader_id))
    try:
        process.start(_START_SECS)
    except LinkError as error:
        raise DatabaseError(str(error)) from None
    return _Running(process, port)


def _target(host: str, port: int | None, username: str | None, password: str | None) -> tuple[str, RedisTarget]:
    url = host if "://" in host else f"redis://{host}:{port or 6379}"
    if "://" in host and port is not None:
        raise DatabaseError(f"port={port} is given beside a URL: write the ports into the URL")
    try:
        target = parse_redis_url(url)
        if password is not None and target.password is None:
            scheme, _, rest = url.partition("://")
            url = f"{scheme}://{quote(username or '', safe='')}:{quote(password, safe='')}@{rest}"
            target = parse_redis_url(url)
        elif password is not None and target.password != password:
            raise DatabaseError("the password is given twice, in the URL and as an argument: use one")
    except RedisUrlError as error:
        raise DatabaseError(f"host: {error}") from None
    try:
        return url, read_target(access_environment(url))
    except AccessError as error:
        raise DatabaseError(str(error)) from None


def _default_journal(trader_id: str) -> Path:
    # Not a temporary directory: it must still be there after a restart of the machine.
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "trader-link" / trader_id
