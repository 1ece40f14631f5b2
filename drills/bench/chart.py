"""The results as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .report import NAMES, number
from .results import Results, Scenario
from .samples import ROUTES, Cell, NoDataError, Route

#: Told apart by people with any colour vision, and by their brightness in print.
_COLOURS: dict[Route, str] = {"direct": "#a9b1bc", "haproxy": "#4878a8", "link": "#d8572a"}
_INK = "#2b2f36"
_PALE = "#6b7280"
_FAINT = "#e4e7eb"
#: The number of connections that the bars show; the table has all of them.
_CONNECTIONS = 20
_BAR = 0.27
#: What the research document claims for the whole path, p95 in ms.
_CLAIMS = {"batch": 1.0, "GET": 0.5, "LRANGE": 0.5}

_IN_AXES: Any = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#b9bfc8",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def draw(results: Results, to: Path) -> None:
    """Write the picture as PNG. Raises ``NoDataError`` if a figure has no samples."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(13, 9.4), dpi=130, facecolor="white")
        rates, path, losses, times = figure.subplots(2, 2, width_ratios=[1.8, 1]).flat
        figure.subplots_adjust(left=0.045, right=0.975, top=0.865, bottom=0.065, wspace=0.17, hspace=0.32)
        figure.suptitle("One Redis behind three routes", x=0.025, y=0.972, ha="left", fontsize=17, fontweight="bold")
        figure.text(0.025, 0.918, results.about.get("Figures", ""), color=_PALE)
        _draw_rates(rates, results)
        _draw_path(path, results)
        _draw_losses(losses, results)
        _draw_recovery(times, results)
        handles, labels = rates.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="upper right", bbox_to_anchor=(0.98, 0.985), ncols=3, frameon=False, fontsize=11.5
        )
        figure.savefig(to, metadata={"Software": None})


def _grid(axes: Axes, axis: Literal["x", "y"]) -> None:
    axes.grid(axis=axis, color=_FAINT, linewidth=0.9)
    axes.spines["left" if axis == "y" else "bottom"].set_visible(False)


def _bars(
    axes: Axes, groups: int, heights: Mapping[Route, Sequence[float]], texts: Mapping[Route, Sequence[str]]
) -> None:
    for index, route in enumerate(ROUTES):
        places = [group + (index - 1) * _BAR for group in range(groups)]
        bars = axes.bar(places, heights[route], _BAR * 0.92, color=_COLOURS[route], label=NAMES[route])
        weight = "bold" if route == "link" else "normal"
        axes.bar_label(bars, texts[route], padding=2, fontsize=8.5, fontweight=weight)


def _draw_rates(axes: Axes, results: Results) -> None:
    cells = list(dict.fromkeys(cell for cell, _ in results.cells if cell.connections == _CONNECTIONS))
    cells.sort(key=lambda cell: cell.pipeline)
    if not cells:
        raise NoDataError(f"no data: cells with {_CONNECTIONS} connections")
    heights = {route: [results.rate_ratio(cell, route, "haproxy") for cell in cells] for route in ROUTES}
    # HAProxy is 1 by definition.
    texts = {route: ["" if route == "haproxy" else f"{value:.2f}" for value in heights[route]] for route in ROUTES}
    _bars(axes, len(cells), heights, texts)
    axes.axhline(1, color=_COLOURS["haproxy"], linewidth=1, linestyle=(0, (4, 3)), zorder=0.5)
    axes.set_xticks(range(len(cells)), [_cell_name(cell) for cell in cells])
    axes.set_title(f"Requests per second, HAProxy = 1   ({_CONNECTIONS} connections, higher is better)")
    axes.margins(x=0.02, y=0.12)
    _grid(axes, "y")


def _cell_name(cell: Cell) -> str:
    name = "batch of 42" if cell.operation == "batch" else cell.operation
    return f"{name}\n{f'pipeline {cell.pipeline}' if cell.pipeline > 1 else 'one by one'}"


def _draw_path(axes: Axes, results: Results) -> None:
    requests = list(dict.fromkeys(request for request, _ in results.own_path))
    if not requests:
        raise NoDataError("no data: requests of one node")
    for row, request in enumerate(requests):
        claim = _CLAIMS[request]
        axes.plot([claim, claim], [row - 0.42, row + 0.42], color=_INK, linewidth=1, linestyle=(0, (2, 2)))
        axes.text(claim, row - 0.44, f"claim {claim:g}", ha="center", va="bottom", fontsize=8, color=_PALE)
        for index, route in enumerate(ROUTES):
            figures = results.path(request, route)
            place = row + (index - 1) * 0.25
            colour = _COLOURS[route]
            axes.plot([figures.p50, figures.p95], [place, place], color=colour, linewidth=5, solid_capstyle="butt")
            axes.plot(figures.p50, place, "o", color=colour, markersize=5)
            axes.plot(figures.p95, place, "|", color=colour, markersize=13, markeredgewidth=2.5)
            axes.annotate(
                number(figures.p95),
                (figures.p95, place),
                (6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                fontweight="bold" if route == "link" else "normal",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            )
    axes.set_yticks(range(len(requests)), ["batch\nof 42" if name == "batch" else name for name in requests])
    axes.set_ylim(len(requests) - 0.5, -0.62)
    axes.set_xlim(left=0)
    axes.margins(x=0.12)
    axes.set_xlabel("ms, p50 to p95")
    axes.set_title("One node's requests, one in flight")
    _grid(axes, "x")


def _scenario_name(scenario: Scenario) -> str:
    return scenario.fault.replace(" with the ", "\nwith ")


def _short(value: float) -> str:
    """Return a count that fits on top of a bar."""
    return number(value) if value < 1000 else f"{value / 1000:.1f}k"


def _draw_losses(axes: Axes, results: Results) -> None:
    scenarios = sorted(results.scenarios(), key=lambda scenario: scenario.min_replicas)
    if not scenarios:
        raise NoDataError("no data: failovers")
    lost = {route: [results.lost_per_failover(scenario, route) for scenario in scenarios] for route in ROUTES}
    texts = {route: [_short(value) for value in lost[route]] for route in ROUTES}
    _bars(axes, len(scenarios), lost, texts)
    # From one batch to everything that a writer had: linear up to 10, then by powers of ten.
    axes.set_yscale("symlog", linthresh=10, linscale=0.6)
    axes.set_ylim(0, max(20.0, *(max(values) for values in lost.values())) * 4)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xticks(range(len(scenarios)), [_scenario_name(scenario) for scenario in scenarios])
    for min_replicas in dict.fromkeys(scenario.min_replicas for scenario in scenarios):
        places = [place for place, scenario in enumerate(scenarios) if scenario.min_replicas == min_replicas]
        middle, first = sum(places) / len(places), min(places)
        name = f"min-replicas-to-write {min_replicas}"
        axes.annotate(name, (middle, 1), (0, -3), **_IN_AXES, ha="center", va="top", color=_PALE)
        if first:
            axes.axvline(first - 0.5, color=_FAINT, linewidth=1.5)
    axes.set_title("Positions lost per failover   (a writer like Nautilus', 100 positions a second)")
    axes.margins(x=0.02)
    _grid(axes, "y")


def _draw_recovery(axes: Axes, results: Results) -> None:
    strictest = max(scenario.min_replicas for scenario in results.scenarios())
    scenarios = [scenario for scenario in results.scenarios() if scenario.min_replicas == strictest]
    for row, scenario in enumerate(scenarios):
        for index, route in enumerate(ROUTES):
            place = row + (index - 1) * 0.25
            runs = [loss.recovery for loss in results.losses(scenario, route)]
            axes.plot(runs, [place] * len(runs), "o", color=_COLOURS[route], markersize=4, alpha=0.45)
            middle = results.recovery(scenario, route)
            axes.plot(middle, place, "|", color=_COLOURS[route], markersize=14, markeredgewidth=3)
            axes.annotate(
                f"{middle:.1f}", (max(runs), place), (7, 0), textcoords="offset points", va="center", fontsize=8.5
            )
    axes.set_yticks(range(len(scenarios)), [_scenario_name(scenario) for scenario in scenarios])
    axes.set_ylim(len(scenarios) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.margins(x=0.12)
    axes.set_xlabel("s, each run and the median; with clients: from its end")
    axes.set_title(f"From fault to first write   (min-replicas {strictest})")
    _grid(axes, "x")
