"""Builds the node's configuration: the paper market, or a user's own JSON with our cache and message bus added."""

# The compiled modules of Nautilus ship without type stubs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from nautilus_trader.adapters.sandbox.config import SandboxExecutionClientConfig
from nautilus_trader.common.config import resolve_path
from nautilus_trader.config import (
    DatabaseConfig,
    ImportableConfig,
    TradingNodeConfig,
)

from trader_node.instruments import VENUE, UnknownInstrumentError, select
from trader_node.settings import Settings, SettingsError

#: A user's settings that stand against ours: keys in Redis would not be those that the tools and the README name, or
#: a start would wipe what the stack is there to keep.
_CACHE_FIELDS_OF_OURS = ("database", "flush_on_start", "use_instance_id", "use_trader_prefix")


def tuned_database(
    host: str, port: int, connection_timeout: int = 20, *, username: str | None = None, password: str | None = None
) -> DatabaseConfig:
    """Return the configuration with which Nautilus loses least when a connection to the link breaks.

    Parameters
    ----------
    host, port
        Where the link listens.
    connection_timeout
        Seconds to wait for a new connection.
    username, password
        What the link asks of its clients, if anything.

    """
    return DatabaseConfig(
        type="redis",
        host=host,
        port=port,
        username=username,
        password=password,
        connection_timeout=connection_timeout,
        # Never short: at a timeout Nautilus drops the batch it was writing and goes on. The link holds a batch for as
        # long as an outage lasts, so waiting is always right; 65535 s is the most Nautilus takes.
        response_timeout=65_535,
        # A constant 100 ms between attempts, practically for ever. With the defaults the delay doubles each time and
        # a node reconnects up to 39 s late; when its attempts are used up it drops the pending batch.
        number_of_retries=1_000_000,
        exponent_base=1,
        factor=100,
        max_delay=1,
    )


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node to run.

    Attributes
    ----------
    config
        Nautilus' configuration.
    paper
        Whether it is our paper market, which must always be trading, or a user's own node.
    calculated_venues
        Venues whose sandbox account must be taken up from the cache.

    """

    config: TradingNodeConfig
    paper: bool
    calculated_venues: tuple[str, ...]


def plan_node(settings: Settings) -> NodePlan:
    """Return the node that the settings ask for.

    Raises
    ------
    SettingsError
        If ``TRADER_CONFIG`` or ``TRADER_INSTRUMENTS`` cannot be used; the message says why and what to do.

    """
    paper = settings.config_path is None
    content = _paper_content(settings) if settings.config_path is None else _read_json(settings.config_path, settings)
    try:
        config = TradingNodeConfig.parse(json.dumps(_with_ours(content, settings)))
    except (msgspec.DecodeError, TypeError, ValueError, KeyError) as error:
        raise SettingsError(
            f"TRADER_CONFIG={str(settings.config_path)!r} is not a node configuration: {error}"
        ) from None
    _check_paths(config)
    return NodePlan(config, paper, _sandbox_venues(config))


def _with_ours(content: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the content with the database, the encoding, the capacities and the identity that the settings name."""
    database = tuned_database(**settings.link_options).json_primitives()
    merged = dict(content)
    merged["trader_id"] = settings.trader_id
    # Defaults that a user's JSON may override.
    merged.setdefault("load_state", True)
    merged.setdefault("save_state", True)
    merged.setdefault("timeout_post_stop", 1.0)
    merged["logging"] = {"log_level": settings.log_level, "log_colors": False} | dict(merged.get("logging") or {})
    # Without it Nautilus' Redis errors go nowhere.
    merged["logging"]["use_pyo3"] = True
    merged["cache"] = {
        "encoding": settings.encoding,
        "buffer_interval_ms": settings.buffer_interval_ms,
        "tick_capacity": settings.tick_capacity,
        "bar_capacity": settings.bar_capacity,
    } | dict(merged.get("cache") or {})
    merged["cache"]["database"] = database
    if settings.message_bus_database:
        merged["message_bus"] = dict(merged.get("message_bus") or {"encoding": "msgpack", "autotrim_mins": 30})
        merged["message_bus"]["database"] = database
        merged["message_bus"].setdefault("buffer_interval_ms", settings.buffer_interval_ms)
    return merged


def _read_json(path: Path, settings: Settings) -> dict[str, Any]:
    name = f"TRADER_CONFIG={str(path)!r}"
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{name} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{name} must hold one JSON object, the fields of Nautilus' TradingNodeConfig")
    for section in ("cache", "message_bus", "logging"):
        if not isinstance(content.get(section), dict | None):
            raise SettingsError(f"{name}: {section!r} must be an object")
    if content.get("trader_id", settings.trader_id) != settings.trader_id:
        # Link, tools and ACL go by TRADER_ID: two names would be two sets of keys.
        raise SettingsError(f"{name} sets trader_id={content['trader_id']!r}: set TRADER_ID to it, or remove it")
    for field in _CACHE_FIELDS_OF_OURS:
        if (content.get("cache") or {}).get(field):
            raise SettingsError(f"{name} sets cache.{field}: remove it, the cache is given the database of REDIS_URL")
    if (content.get("message_bus") or {}).get("database"):
        raise SettingsError(
            f"{name} sets message_bus.database: remove it, and set MESSAGE_BUS_DATABASE=true to publish to Redis"
        )
    return content


def _paper_content(settings: Settings) -> dict[str, Any]:
    try:
        select(settings.instruments)
    except UnknownInstrumentError as error:
        raise SettingsError(f"TRADER_INSTRUMENTS: {error}") from None
    ids = list(settings.instruments)
    return {
        "data_clients": {
            VENUE: {
                "path": "trader_node.market:PaperMarketConfig",
                "factory": {"path": "trader_node.market:PaperMarketFactory"},
                "config": {"instrument_ids": ids, "seed": settings.seed},
            }
        },
        "exec_clients": {
            VENUE: {
                "path": "trader_node.execution:PaperExecutionConfig",
                "factory": {"path": "trader_node.execution:PaperExecutionFactory"},
                "config": {},
            }
        },
        "exec_engine": _purging(settings.keep_closed_minutes),
        # Nautilus' own throttle denies orders above 100 per second.
        "risk_engine": {"max_order_submit_rate": f"{max(100, int(2 * settings.orders_per_second))}/00:00:01"},
        # Three lines per fill and one per purged order drown everything else.
        "logging": {"log_component_levels": {"Portfolio": "WARNING", "Cache": "WARNING"}},
        "strategies": [
            {
                "strategy_path": "trader_node.strategy:HedgedBook",
                "config_path": "trader_node.strategy:HedgedBookConfig",
                "config": {
                    "order_id_tag": "001",
                    "oms_type": "HEDGING",
                    "instrument_ids": ids,
                    "orders_per_second": settings.orders_per_second,
                    "seed": settings.seed,
                    # A line per event would be some 200 lines per second.
                    "log_events": False,
                    "log_commands": False,
                },
            }
        ],
    }


def _purging(keep_minutes: int) -> dict[str, Any]:
    """Return the engine's settings that keep memory, Redis and the time of a restart bounded.

    Ten minutes at 20 orders/s are 12,000 orders with their positions: 44 MB in Redis and 5 s of loading at the next
    start. Account states are the business of :mod:`trader_node.account_history`.
    """
    if keep_minutes == 0:
        return {}
    return {
        "purge_closed_orders_interval_mins": 1,
        "purge_closed_orders_buffer_mins": keep_minutes,
        "purge_closed_positions_interval_mins": 1,
        "purge_closed_positions_buffer_mins": keep_minutes,
        "purge_from_database": True,
    }


def _check_paths(config: TradingNodeConfig) -> None:
    """Import what the configuration names, so that a wrong name is one line and not a traceback out of Nautilus."""
    for part in (*config.strategies, *config.actors, *config.exec_algorithms):
        for field in part.__struct_fields__:
            if field.endswith("_path"):
                _check_path(getattr(part, field), field)
    for client in (*config.data_clients.values(), *config.exec_clients.values()):
        if isinstance(client, ImportableConfig):
            _check_path(client.path, "path")
            if client.factory is not None:
                _check_path(client.factory.path, "factory.path")


def _check_path(path: str, field: str) -> None:
    try:
        resolve_path(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"TRADER_CONFIG: {field}={path!r} cannot be imported ({error}): the form is package.module:Class, "
            "and the module's directory must be in PYTHONPATH"
        ) from None


def _sandbox_venues(config: TradingNodeConfig) -> tuple[str, ...]:
    venues = []
    for name, client in config.exec_clients.items():
        try:
            built: Any = client
            if isinstance(client, ImportableConfig):
                # Nautilus' own method has no annotations.
                built = client.create()  # type: ignore[no-untyped-call]
        except (ImportError, AttributeError, AssertionError, msgspec.DecodeError, ValueError) as error:
            raise SettingsError(f"TRADER_CONFIG: execution client {name!r} cannot be configured: {error}") from None
        if isinstance(built, SandboxExecutionClientConfig):
            venues.append(built.venue)
    return tuple(venues)
