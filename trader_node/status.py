"""The state of the stack on one page, for people: ``python -m trader_node.status``."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from itertools import zip_longest
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from trader_node.live import WIDTH, Sample, render_live
from trader_node.settings import Settings, SettingsError
from trader_node.survey import Survey, survey

#: Seconds between two looks where --watch names none.
DEFAULT_INTERVAL = 1.0


def render(found: Survey) -> RenderableType:
    """Return a survey as something rich can print."""
    parts: list[RenderableType] = []
    if found["sentinels"] is not None:
        parts.append(_sentinel_table(found["sentinels"]))
    parts.append(_node_table(found))
    parts.append(_facts(found))
    problems = [f"[red]! {escape(problem)}[/red]" for problem in found["problems"]]
    parts.append("\n".join(problems) if problems else "[green]all well[/green]")
    return Group(*parts)


def _sentinel_table(sentinels: dict[str, Any]) -> Table:
    members = sentinels["members"]
    of = f"{len(members)}" if sentinels["known"] == len(members) else f"{len(members)} asked, of {sentinels['known']},"
    table = Table(title=f"Sentinels ({sentinels['quorum_ok']} of {of} see a quorum)", title_justify="left")
    for name in ("address", "master", "epoch", "quorum"):
        table.add_column(name)
    for row in members:
        if "error" in row:
            table.add_row(row["address"], "[red]?[/red]", "", escape(row["error"]))
        else:
            table.add_row(row["address"], row["master"], str(row["config_epoch"]), escape(row["quorum"]))
    return table


def _node_table(found: Survey) -> Table:
    table = Table(title=f"Redis ({escape(found['target'])})", title_justify="left")
    table.add_column("address")
    table.add_column("role")
    for name in ("offset", "lag, bytes", "last heard, s"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for row in found["nodes"]:
        if "error" in row:
            table.add_row(row["address"], row["expected"], "", "", "", f"[red]{escape(row['error'])}[/red]")
        elif row["role"] == "master":
            table.add_row(
                row["address"], "[bold]master[/bold]", str(row["offset"]), "", "", f"replicas: {row['replicas']}"
            )
        else:
            table.add_row(
                row["address"],
                row["role"],
                str(row["offset"]),
                str(row.get("lag_bytes", "?")),
                str(row["last_io_seconds"]),
                f"link {row['link']}",
            )
    return table


def _facts(found: Survey) -> Table:
    table = Table.grid(padding=(0, 2))
    node, stored, link = found["node"], found["stored"], found["link"]
    if node is None:
        table.add_row("node", "not visible from here")
    else:
        paused = ", orders held back" if node["paused"] else ""
        table.add_row(
            "node",
            f"{node['state']}{paused}: {node['positions_open']} positions open, {node['orders']} orders, "
            f"{node['fills']} fills since start, heartbeat {node['heartbeat_age_seconds']} s ago",
        )
    if stored is None:
        table.add_row("stored", "unknown")
    else:
        table.add_row(
            "stored",
            f"{stored['trader_id']}: {stored['positions']} positions ({stored['positions_open']} open), "
            f"{stored['orders']} orders ({stored['orders_open']} open)",
        )
    if link is None:
        table.add_row("link", "not visible from here")
    else:
        numbers = {key: link[key] for key in ("accepted", "unfinished", "master_changes") if key in link}
        described = ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in numbers.items())
        table.add_row("link", f"{link.get('state', '?')}: {described}")
    return table


def main(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    watch: Annotated[
        float, typer.Option(help="A live view, drawn again every so many seconds (1 if none are named); 0 shows once.")
    ] = 0.0,
) -> None:
    """Show who is master, replication, Sentinels, the trading node and what is stored.

    The exit code is 0 if all is well, 1 if something is wrong, 2 if the settings are.
    """
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        print(f"status: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    if watch > 0 and not as_json:
        _watch(settings, watch)
        return
    found = survey(settings)
    if as_json:
        print(json.dumps(found))
    else:
        console = Console()
        (console if console.is_terminal else Console(width=160)).print(render(found))
    if found["problems"]:
        raise typer.Exit(1)


def _watch(settings: Settings, interval: float) -> None:
    """Draw until Ctrl-C; where nobody looks (a pipe, a log), print every time anew."""
    history: deque[Sample] = deque(maxlen=WIDTH + 1)
    console = Console()

    def look() -> RenderableType:
        history.append(Sample(time.monotonic(), survey(settings)))
        return render_live(history)

    try:
        if not console.is_terminal:
            plain = Console(width=160)
            while True:
                plain.print(look())
                time.sleep(interval)
        with Live(look(), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                live.update(look(), refresh=True)
    except KeyboardInterrupt:
        return


def with_interval(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the default interval behind a --watch that names none."""
    words: list[str] = []
    for word, following in zip_longest(arguments, arguments[1:]):
        words.append(word)
        if word == "--watch" and (following is None or following.startswith("-")):
            words.append(str(DEFAULT_INTERVAL))
    return words


if __name__ == "__main__":
    sys.argv[1:] = with_interval(sys.argv[1:])
    typer.run(main)
