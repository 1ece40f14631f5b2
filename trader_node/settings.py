"""Settings of the trader, all of them environment variables.

Nothing here imports NautilusTrader: the supervisor and the commands for people must start in a fraction of a second.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trader_node.link.access import URL, AccessError, read_login, read_target
from trader_node.link.login import Login
from trader_node.link.url import RedisTarget

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379"
DEFAULT_TRADER_ID = "TRADER-001"
DEFAULT_INSTRUMENTS = "BTCUSDT-PERP.PAPER,ETHUSDT-PERP.PAPER,SOLUSDT-PERP.PAPER,EURUSD.PAPER"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
# Nautilus takes the part after the last hyphen as the tag of its order ids; the characters are those that are safe
# in a Redis key, a file name and a SCAN pattern.
_TRADER_ID = re.compile(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)+")


class SettingsError(ValueError):
    """A setting is wrong; the one-line message names the variable, its value (never a password) and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set from outside.

    Attributes
    ----------
    redis
        Where Redis is and how to log in (``REDIS_URL`` and what stands beside it, see ``link.access``).
    redis_url
        ``REDIS_URL`` as given, perhaps with credentials; kept out of ``repr``.
    trader_id
        Nautilus trader id (``TRADER_ID``); also the prefix of every key, ``trader-<TRADER_ID>:``.
    seed
        Seed of the paper market and the example strategy (``TRADER_SEED``); None draws a new one per start.
    orders_per_second
        Orders the example strategy submits, per second (``TRADER_ORDERS_PER_SECOND``); 0 means none.
    instruments
        Instrument ids of the paper market (``TRADER_INSTRUMENTS``, comma separated).
    keep_closed_minutes
        Minutes for which the paper node's closed orders and positions stay in its memory and in Redis
        (``TRADER_KEEP_CLOSED_MINUTES``); 0 keeps them for ever. A user's own JSON sets its own purging.
    config_path
        A user's own node as JSON (``TRADER_CONFIG``), None for the paper market.
    encoding
        Of cached objects (``CACHE_ENCODING``): ``msgpack`` or ``json``.
    buffer_interval_ms
        Milliseconds between two batches of writes (``CACHE_BUFFER_INTERVAL_MS``), 1 to 1000.
    tick_capacity, bar_capacity
        Ticks and bars kept in memory per instrument (``CACHE_TICK_CAPACITY``, ``CACHE_BAR_CAPACITY``).
    message_bus_database
        Also publish the message bus to Redis streams (``MESSAGE_BUS_DATABASE``).
    log_level
        One of DEBUG, INFO, WARNING, ERROR (``LOG_LEVEL``).
    link_host, link_port
        Loopback address at which the link serves the node (``LINK_LISTEN``).
    link_login
        What the link asks of its clients (``LINK_CLIENT_USERNAME``, ``LINK_CLIENT_PASSWORD``); None for nothing.
    journal_dir
        Directory of the link's journal (``LINK_JOURNAL_DIR``).
    state_dir
        Directory of heartbeat and report socket (``STATE_DIR``).

    """

    redis: RedisTarget
    redis_url: str = field(repr=False)
    trader_id: str
    seed: int | None
    orders_per_second: float
    instruments: tuple[str, ...]
    keep_closed_minutes: int
    config_path: Path | None
    encoding: str
    buffer_interval_ms: int
    tick_capacity: int
    bar_capacity: int
    message_bus_database: bool
    log_level: str
    link_host: str
    link_port: int
    link_login: Login | None
    journal_dir: Path
    state_dir: Path

    @property
    def link_options(self) -> dict[str, Any]:
        """How redis-py reaches the link."""
        login = self.link_login
        return {
            "host": self.link_host,
            "port": self.link_port,
            "username": None if login is None else login.username,
            "password": None if login is None else login.password,
        }

    @property
    def link_health_path(self) -> Path:
        """File in which the link tells its health."""
        return self.state_dir / "link"

    @property
    def heartbeat_path(self) -> Path:
        """File that the node refreshes about once per second."""
        return self.state_dir / "heartbeat"

    @property
    def report_socket(self) -> Path:
        """Unix socket at which the node reports its own record."""
        return self.state_dir / "report.sock"

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read and check all settings.

        Parameters
        ----------
        env
            Variables to read instead of the process's own.

        Raises
        ------
        SettingsError
            At the first variable that is wrong.

        """
        read = _Reader(os.environ if env is None else env)
        redis, link_login = read.access()
        link_host, link_port = read.loopback_address("LINK_LISTEN", "127.0.0.1:6379")
        return cls(
            redis=redis,
            redis_url=read.text(URL, DEFAULT_REDIS_URL),
            trader_id=read.trader_id("TRADER_ID", DEFAULT_TRADER_ID),
            seed=read.optional_integer("TRADER_SEED"),
            orders_per_second=read.number("TRADER_ORDERS_PER_SECOND", 20.0, 0.0, 1000.0),
            instruments=read.names("TRADER_INSTRUMENTS", DEFAULT_INSTRUMENTS),
            keep_closed_minutes=read.integer("TRADER_KEEP_CLOSED_MINUTES", 10, 0, 1_000_000),
            config_path=read.file("TRADER_CONFIG"),
            encoding=read.choice("CACHE_ENCODING", "msgpack", ("msgpack", "json"), str.lower),
            buffer_interval_ms=read.integer("CACHE_BUFFER_INTERVAL_MS", 100, 1, 1000),
            tick_capacity=read.integer("CACHE_TICK_CAPACITY", 10_000, 1, 100_000_000),
            bar_capacity=read.integer("CACHE_BAR_CAPACITY", 10_000, 1, 100_000_000),
            message_bus_database=read.boolean("MESSAGE_BUS_DATABASE", default=False),
            log_level=read.choice("LOG_LEVEL", "INFO", LOG_LEVELS, str.upper),
            link_host=link_host,
            link_port=link_port,
            link_login=link_login,
            journal_dir=Path(read.text("LINK_JOURNAL_DIR", "/var/lib/trader/journal")),
            state_dir=Path(read.text("STATE_DIR", _default_state_dir())),
        )


def _default_state_dir() -> str:
    # The image creates /run/trader; a run from a checkout has no right to, and must not need root.
    system = Path("/run/trader")
    if system.is_dir() and os.access(system, os.W_OK):
        return str(system)
    return str(Path(tempfile.gettempdir()) / f"trader-{os.getuid()}")


class _Reader:
    """Turns variables into values; an empty variable counts as unset, as Compose passes ``${X:-}`` on."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str, default: str) -> str:
        return self._env.get(name, "").strip() or default

    def access(self) -> tuple[RedisTarget, Login | None]:
        try:
            return read_target(self._env, DEFAULT_REDIS_URL), read_login(self._env)
        except AccessError as error:
            raise SettingsError(str(error)) from None

    def trader_id(self, name: str, default: str) -> str:
        value = self.text(name, default)
        if not _TRADER_ID.fullmatch(value):
            raise SettingsError(
                f"{name}={value!r} is not a trader id: use NAME-TAG of letters, digits, '_' and '.', e.g. {default}"
            )
        return value

    def optional_integer(self, name: str) -> int | None:
        value = self.text(name, "")
        if not value:
            return None
        return self._parse(name, value, int, "use a whole number, or leave it unset for a new seed at every start")

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        advice = f"use a whole number from {low} to {high}"
        value = self._parse(name, self.text(name, str(default)), int, advice)
        if not low <= value <= high:
            raise SettingsError(f"{name}={value} is out of range: {advice}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        advice = f"use a number from {low:g} to {high:g}"
        value = self._parse(name, self.text(name, str(default)), float, advice)
        if not low <= value <= high:  # also false for NaN
            raise SettingsError(f"{name}={value:g} is out of range: {advice}")
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.text(name, str(default)).lower()
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise SettingsError(f"{name}={value!r} is not a switch: use true or false")

    def choice(self, name: str, default: str, allowed: tuple[str, ...], fold: Callable[[str], str]) -> str:
        value = self.text(name, default)
        if fold(value) not in allowed:
            raise SettingsError(f"{name}={value!r} is unknown: use one of {', '.join(allowed)}")
        return fold(value)

    def names(self, name: str, default: str) -> tuple[str, ...]:
        values = tuple(part.strip() for part in self.text(name, default).split(",") if part.strip())
        if not values:
            raise SettingsError(f"{name} names nothing: give a comma separated list, e.g. {default}")
        if len(set(values)) != len(values):
            raise SettingsError(f"{name}={','.join(values)!r} names one twice: list each once")
        return values

    def file(self, name: str) -> Path | None:
        value = self.text(name, "")
        if not value:
            return None
        path = Path(value)
        if not path.is_file():
            raise SettingsError(f"{name}={value!r} is not a file: mount it into the container, or fix the path")
        return path

    def loopback_address(self, name: str, default: str) -> tuple[str, int]:
        value = self.text(name, default)
        advice = f"use a loopback address and a port, e.g. {default}"
        host, separator, port_text = value.rpartition(":")
        if not separator or not host or not port_text.isdecimal() or not 1 <= int(port_text) <= 65535:
            raise SettingsError(f"{name}={value!r} is not an address: {advice}")
        if host != "localhost" and not host.startswith("127.") and host != "[::1]":
            # Nobody but the node has to reach it: passwords and data pass there in plain text.
            raise SettingsError(f"{name}={value!r} is not on loopback: {advice}")
        return host.strip("[]"), int(port_text)

    @staticmethod
    def _parse[T](name: str, value: str, kind: Callable[[str], T], advice: str) -> T:
        try:
            return kind(value)
        except ValueError:
            raise SettingsError(f"{name}={value!r} is not a number: {advice}") from None
