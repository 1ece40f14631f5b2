"""The stack in a terminal, drawn again and again: the panels of the dashboard, from surveys alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from trader_node.survey import Survey

#: How many samples a curve shows.
WIDTH = 60
_BLOCKS = "▁▂▃▄▅▆▇█"
_STATE_COLOURS = {"ready": "green", "holding": "yellow", "draining": "yellow", "halted": "bold red"}
_SEVERITY_COLOURS = {"critical": "bold red", "warning": "yellow"}


class Sample(NamedTuple):
    """A survey and when it was made."""

    #: Monotonic seconds.
    time: float
    survey: Survey


def render_live(history: Sequence[Sample]) -> RenderableType:
    """Return the view of the last of at least one sample; rates and curves are taken from those before it."""
    found = history[-1].survey
    parts: list[RenderableType] = [
        Columns([_now(found), _writes(history)], equal=False, expand=False),
        Panel(_nodes(history), title="Redis", title_align="left"),
    ]
    if found["sentinels"] is not None:
        parts.append(Panel(_sentinels(found["sentinels"]), title="Sentinels", title_align="left"))
    parts.append(Panel(_alerts(found["alerts"]), title="Alerts", title_align="left"))
    parts += [f"[red]! {escape(problem)}[/]" for problem in found["problems"]] or ["[green]all well[/]"]
    return Group(*parts)


def rates(history: Sequence[Sample], count: Callable[[Survey], float | None]) -> list[float | None]:
    """Return the growth per second of a counter between samples; None where it is unknown or began anew."""
    found: list[float | None] = []
    for before, after in pairwise(history):
        first, last = count(before.survey), count(after.survey)
        if first is None or last is None or last < first:
            found.append(None)
        else:
            found.append((last - first) / max(after.time - before.time, 1e-3))
    return found


def curve(values: Sequence[float | None], width: int = WIDTH) -> str:
    """Return the last values as a line of blocks, scaled to the highest; a gap is a space."""
    shown = list(values)[-width:]
    highest = max((value for value in shown if value is not None), default=0.0)
    if highest <= 0:
        return "".join(" " if value is None else _BLOCKS[0] for value in shown)
    steps = len(_BLOCKS) - 1
    return "".join(" " if value is None else _BLOCKS[round(max(value, 0.0) / highest * steps)] for value in shown)


def _now(found: Survey) -> Panel:
    masters = sum(node.get("role") == "master" for node in found["nodes"])
    following = sum(node.get("role") == "replica" and node["link"] == "up" for node in found["nodes"])
    others = max(len(found["nodes"]) - 1, 0)
    table = Table.grid(padding=(0, 2))
    table.add_row("master", _good(masters == 1, found["master"] or "none" if masters else "none"))
    table.add_row("replicas following", _good(following == others, f"{following} of {others}"))
    if found["sentinels"] is not None:
        sentinels, quorum = len(found["sentinels"]["members"]), found["sentinels"]["quorum_ok"]
        table.add_row("Sentinels with quorum", _good(quorum == sentinels, f"{quorum} of {sentinels}"))
    link = found["link"]
    state = "not visible" if link is None else str(link.get("state", "?"))
    table.add_row("link", f"[{_STATE_COLOURS.get(state, 'red')}]{state}[/]")
    if link is not None:
        lost = link.get("gap_lost", 0) + link.get("gap_unsure", 0)
        table.add_row("entries lost", _good(not lost, f"{lost:,}"))
    node = found["node"]
    if node is not None:
        table.add_row("node", _good(node["state"] == "RUNNING", f"{node['state']}, {node['positions_open']} positions"))
    return Panel(table, title="Now", title_align="left")


def _writes(history: Sequence[Sample]) -> Panel:
    accepted = rates(history, lambda survey: _of_link(survey, "accepted"))
    holding = rates(history, lambda survey: _of_link(survey, "hold_seconds"))
    link = history[-1].survey["link"] or {}
    journal = link.get("journal") or {}
    table = Table.grid(padding=(0, 2))
    table.add_row("writes/s", _last(accepted, "{:,.0f}"), f"[cyan]{curve(accepted)}[/]")
    table.add_row("holding", _last(holding, "{:.0%}"), f"[yellow]{curve(holding)}[/]")
    if journal:
        filled = journal["bytes"] / journal["max_bytes"]
        colour = "red" if filled > 0.95 or not journal["writable"] else "yellow" if filled > 0.6 else "green"
        bar = "█" * round(filled * 20)
        table.add_row("journal", f"[{colour}]{filled:.0%}[/]", f"[{colour}]{bar}[/][dim]{'·' * (20 - len(bar))}[/]")
    table.add_row("not applied yet", f"{link.get('unfinished', '?'):,}" if link else "?", "")
    table.add_row("sent again", f"{link.get('replayed', 0):,}" if link else "?", _changes(link))
    return Panel(table, title="Writes", title_align="left")


def _changes(link: dict[str, Any]) -> str:
    return f"[dim]{link['master_changes']} failovers, {link['refused']} refused[/]" if "master_changes" in link else ""


def _nodes(history: Sequence[Sample]) -> Table:
    found = history[-1].survey
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name in ("address", "role"):
        table.add_column(name)
    for name in ("lag, bytes", "lacks, entries", "commands/s", "memory", "AOF, MB"):
        table.add_column(name, justify="right")
    table.add_column("state")
    link = found["link"] or {}
    for row in found["nodes"]:
        address = row["address"]
        if "error" in row:
            table.add_row(address, row["expected"], "", "", "", "", "", f"[red]{escape(row['error'])}[/]")
            continue
        marker = link.get("markers", {}).get(address)
        limit = row["memory_limit_bytes"]
        table.add_row(
            address,
            "[bold]master[/]" if row["role"] == "master" else row["role"],
            f"{row['lag_bytes']:,}" if "lag_bytes" in row else "",
            "" if marker is None else f"{max(link['applied_seq'] - marker, 0):,}",
            _last(rates(history, _commands_of(address)), "{:,.0f}"),
            _memory(row["memory_bytes"], limit),
            f"{row['aof_bytes'] / 1e6:,.1f}" + ("" if row["aof_ok"] else " [red]failing[/]"),
            f"replicas: {row['replicas']}" if row["role"] == "master" else f"link {row['link']}",
        )
    return table


def _memory(used: int, limit: int) -> str:
    if not limit:
        return f"{used / 1e6:,.0f} MB"
    share = used / limit
    return f"[{'red' if share > 0.98 else 'yellow' if share > 0.85 else 'default'}]{share:.0%}[/]"


def _sentinels(sentinels: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in sentinels["members"]:
        if "error" in row:
            table.add_row(row["address"], "[red]?[/]", escape(row["error"]))
        else:
            table.add_row(
                row["address"], f"names {row['master']}", _good(row["quorum"].startswith("OK"), row["quorum"])
            )
    return table


def _alerts(alerts: list[dict[str, Any]] | None) -> RenderableType:
    if alerts is None:
        return "[dim]no Prometheus answers here (./scripts/up --observability)[/]"
    if not alerts:
        return "[green]none[/]"
    table = Table.grid(padding=(0, 2))
    for alert in alerts:
        colour = _SEVERITY_COLOURS.get(alert["severity"], "default")
        since = alert["since"][11:19]
        table.add_row(f"[{colour}]{alert['severity']}[/]", alert["name"], escape(alert["summary"]), f"[dim]{since}[/]")
    return table


def _good(good: bool, text: str) -> str:
    return f"[{'green' if good else 'red'}]{escape(text)}[/]"


def _last(values: Sequence[float | None], form: str) -> str:
    return form.format(values[-1]) if values and values[-1] is not None else "?"


def _of_link(found: Survey, key: str) -> float | None:
    link = found["link"]
    return None if link is None or key not in link else float(link[key])


def _commands_of(address: str) -> Callable[[Survey], float | None]:
    def commands(found: Survey) -> float | None:
        for row in found["nodes"]:
            if row["address"] == address and "commands" in row:
                return float(row["commands"])
        return None

    return commands
