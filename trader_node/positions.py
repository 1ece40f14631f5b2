"""Positions as Redis holds them, for people: ``python -m trader_node.positions``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from trader_node.inspect import DamagedRecordError, TraderKeys
from trader_node.redis_access import RedisAccessError, find_master, open_server
from trader_node.settings import Settings, SettingsError
from trader_node.snapshot import Record, position_record


def table(records: list[Record], title: str) -> Table:
    """Return a table of positions, the newest last."""
    result = Table(title=title, title_justify="left")
    result.add_column("position", no_wrap=True)
    result.add_column("instrument", no_wrap=True)
    result.add_column("side")
    for name in ("quantity", "peak", "avg open", "avg close", "realized PnL", "fills"):
        result.add_column(name, justify="right", no_wrap=True)
    result.add_column("opened (UTC)", no_wrap=True)
    for record in records:
        close = record["avg_px_close"]
        result.add_row(
            record["position_id"],
            record["instrument_id"],
            record["side"],
            record["quantity"],
            record["peak_qty"],
            f"{record['avg_px_open']:.8g}",
            "" if close is None else f"{close:.8g}",
            record["realized_pnl"],
            str(len(record["events"])),
            f"{datetime.fromtimestamp(record['ts_opened'] / 1e9, UTC):%Y-%m-%d %H:%M:%S}",
        )
    return result


def main(
    trader: Annotated[str, typer.Option(help="Trader id; default TRADER_ID.")] = "",
    open_only: Annotated[bool, typer.Option("--open", help="Only open positions.")] = False,
    limit: Annotated[int, typer.Option(help="Show at most so many, the newest; 0 shows all.")] = 50,
) -> None:
    """List a trader's positions from the current master."""
    try:
        settings = Settings.from_env()
        address = find_master(settings.redis)
        with open_server(address, settings.redis, timeout=5.0) as redis:
            name = trader or settings.trader_id
            keys = TraderKeys(redis, name, settings.encoding)
            records: list[dict[str, Any]] = [position_record(p) for p in keys.positions(keys.instruments())]
    except (SettingsError, RedisAccessError, DamagedRecordError, RedisError) as error:
        print(f"positions: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    total, still_open = len(records), sum(record["side"] != "FLAT" for record in records)
    chosen = sorted(
        (record for record in records if not open_only or record["side"] != "FLAT"),
        key=lambda record: (record["ts_opened"], record["position_id"]),
    )
    shown = chosen[-limit:] if limit > 0 else chosen
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # into a pipe or a file: never cut a column
    console.print(table(shown, f"{name}: {total} positions, {still_open} open, master {address[0]}:{address[1]}"))
    if len(shown) < len(chosen):
        console.print(f"the newest {len(shown)} of {len(chosen)}; --limit 0 shows all")


if __name__ == "__main__":
    typer.run(main)
