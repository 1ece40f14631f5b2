"""All drills of a run in one picture: a row for each, with its longest stall, its verdict and its counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from drills.results import DrillReport, DrillResult

from .palette import COLOURS, STYLE, TONES
from .summary import Row, headline, rows
from .words import count, duration, moment, one_line

_WIDTH = 12.2
#: Inches from the left: names end here, bars lie between these, the verdict begins here.
_NAME = 2.65
_BARS = (2.8, 6.5)
_VERDICT = 6.9
_ROW = 0.29
_HEAD = 1.35
_FOOT = 0.5


#: Right edge in inches, title, figure, and whether anything but 0 is bad.
_COLUMNS: tuple[tuple[float, str, Callable[[DrillResult], int], bool], ...] = (
    (9.0, "writes", lambda run: run.appender.acknowledged, False),
    (9.8, "replayed", lambda run: run.appender.replayed + run.trader.replayed, False),
    (10.45, "lost", lambda run: run.appender.lost + run.trader.lost, True),
    (11.25, "duplicated", lambda run: run.appender.duplicated + run.trader.duplicated, True),
    (12.0, "reordered", lambda run: run.appender.reordered, True),
)


def figure(report: DrillReport, dpi: int = 160) -> Figure:
    """Return the picture."""
    with mpl.rc_context({**STYLE, "font.size": 9.0}):
        lines = rows(report)
        height = _HEAD + _ROW * max(1, len(lines)) + _FOOT
        whole = Figure(figsize=(_WIDTH, height), dpi=dpi, facecolor=COLOURS["paper"])
        _draw_head(whole, report, height)
        left, right = _BARS
        axes = whole.add_axes(
            (left / _WIDTH, _FOOT / height, (right - left) / _WIDTH, _ROW * max(1, len(lines)) / height)
        )
        _draw_bars(axes, lines)
        for index, row in enumerate(lines):
            _draw_texts(whole, row, height - _HEAD - (index + 0.5) * _ROW)
        return whole


def _text(whole: Figure, x: float, y: float, text: str, **looks: Any) -> None:
    whole.text(x / _WIDTH, y / whole.get_figheight(), text, va="center", **looks)


def _draw_head(whole: Figure, report: DrillReport, height: float) -> None:
    failed = any(drill.status == "failed" for drill in report.drills)
    tone = COLOURS["red" if failed else "good" if report.passed else "muted"]
    _text(whole, 0.2, height - 0.34, f"Failover drills: {headline(report)}", size=16, weight="bold", color=tone)
    place = report.environment
    about = (
        f"{moment(report.started)}   ·   {duration(report.duration)}   ·   Redis {place.redis_version}   ·   "
        f"{place.cpus} cores   ·   seed {report.seed}"
    )
    _text(whole, 0.2, height - 0.66, about, color=COLOURS["muted"])
    y = height - _HEAD + 0.17
    looks: dict[str, Any] = {"color": COLOURS["muted"], "size": 8.5}
    _text(whole, _NAME, y, "drill", ha="right", **looks)
    _text(whole, _BARS[0], y, "longest stall of writes; a dot for each repetition", **looks)
    _text(whole, _VERDICT, y, "verdict", **looks)
    for x, title, _, _ in _COLUMNS:
        _text(whole, x, y, title, ha="right", **looks)


def _draw_bars(axes: Axes, lines: Sequence[Row]) -> None:
    longest = max((run.availability.longest_stall for row in lines for run in row.done), default=0.0)
    axes.set_xlim(0, max(1.0, longest * 1.18))
    axes.set_ylim(max(1, len(lines)) - 0.5, -0.5)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s" if value else "0")
    axes.grid(axis="x", color=COLOURS["faint"], linewidth=0.8)
    axes.spines["left"].set_color(COLOURS["axis"])
    axes.spines["bottom"].set_visible(False)
    for index, row in enumerate(lines):
        runs = [run for run in row.done if run.appender.acknowledged]
        values = [run.availability.longest_stall for run in runs]
        if not values:
            if row.done:
                place = (0, index)
                axes.annotate(
                    "no data", place, (6, 0), textcoords="offset points", va="center", color=COLOURS["red"], size=8.5
                )
            continue
        bad = row.status == "failed"
        axes.barh(index, max(values), 0.56, color=COLOURS["red" if bad else "median"], alpha=0.3)
        dots = [COLOURS["red" if run.status == "failed" else "median"] for run in runs]
        axes.scatter(values, [index] * len(values), s=13, color=dots, linewidth=0, zorder=3, clip_on=False)
        axes.annotate(
            f"{max(values):.2f} s",
            (max(values), index),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=COLOURS["ink"],
            size=8.5,
        )


def _draw_texts(whole: Figure, row: Row, y: float) -> None:
    _text(whole, _NAME, y, one_line(row.name, 34), ha="right")
    _text(whole, _VERDICT, y, row.verdict, color=COLOURS[TONES[row.status]], weight="bold")
    if not row.done:
        # A reason says more than five times nothing.
        _text(whole, _VERDICT + 0.95, y, one_line(row.runs[0].reason, 68), color=COLOURS["muted"], size=8)
        return
    for x, _, number, harmful in _COLUMNS:
        value = row.total(number)
        bad = harmful and value > 0
        looks = {"color": COLOURS["red"], "weight": "bold"} if bad else {"color": COLOURS["ink"]}
        _text(whole, x, y, count(value), ha="right", **looks)
