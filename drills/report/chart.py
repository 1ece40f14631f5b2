"""The timeline of a drill: how long writes took, and who was master."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from drills.results import BUCKET, DrillResult

from . import series
from .palette import COLOURS, SIGNS, STYLE, TONES
from .words import duration, one_line

#: Inches. The same on every chart, so that any two can be laid one above the other.
_RIGHT = 0.14
_PHASES = 0.25
_LATENCY = 1.75
_MARKS = 0.3
_LANE = 0.25
_BOTTOM = 0.5
_TITLE = 0.56
_BETWEEN = 0.16
#: Milliseconds: from the fastest write on loopback to the longest failover. Wider only if the data are.
_LOW, _HIGH = 0.1, 10_000.0
_TICKS = {10**power: duration(10**power / 1000) for power in range(-3, 7)}
_LANES = 3
#: Inches that a character covers per point of size, on the wide side.
_CHARACTER = 0.62 / 72

_ABOVE: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
_MARK_LINES: dict[str, Any] = {"inject": "-", "heal": (0, (4, 2))}


@dataclass(frozen=True, slots=True)
class Size:
    """The measures of a chart; inches and points."""

    width: float
    left: float
    font: float
    ticks: int
    legend: tuple[str, str, str]


#: For a screen or a sheet of paper.
WIDE = Size(9.6, 0.86, 8.0, 10, ("median", "longest within 0.1 s", "no write acknowledged"))
#: For a phone.
NARROW = Size(4.1, 0.6, 8.5, 5, ("median", "longest", "no write"))


def height(drill: DrillResult, *, titled: bool = False) -> float:
    """Return the height of a drill's chart in inches."""
    lanes = max(_LANES, len(series.lanes(drill)))
    return (_TITLE + _BETWEEN if titled else 0.0) + _PHASES + _LATENCY + _MARKS + _LANE * lanes + _BOTTOM


def figure(drills: Sequence[DrillResult], size: Size = WIDE, *, titled: bool = False, dpi: int = 160) -> Figure:
    """Return a figure with one chart below the other; ``titled``: each with the drill's name and verdict above."""
    with mpl.rc_context({**STYLE, "font.size": size.font}):
        total = sum(height(drill, titled=titled) for drill in drills)
        whole = Figure(figsize=(size.width, total), dpi=dpi, facecolor=COLOURS["paper"])
        top = total
        for drill in drills:
            _Chart(whole, drill, size, top).draw(titled=titled)
            top -= height(drill, titled=titled)
        return whole


class _Chart:
    """One drill's chart, in the part of a figure whose upper edge is ``top`` inches above the figure's lower one."""

    def __init__(self, whole: Figure, drill: DrillResult, size: Size, top: float) -> None:
        self._figure = whole
        self._drill = drill
        self._size = size
        self._top = top
        self._end = series.end(drill)
        self._inner = size.width - size.left - _RIGHT
        self._marks = series.marks(drill)

    def draw(self, *, titled: bool) -> None:
        """Draw all of it, from top to bottom."""
        if titled:
            self._top -= _BETWEEN
            self._draw_title()
            self._top -= _TITLE
        self._top -= _PHASES
        latency = self._take(_LATENCY)
        self._draw_latency(latency)
        self._draw_phases(latency)
        self._top -= _MARKS
        lanes = self._take(_LANE * max(_LANES, len(series.lanes(self._drill))))
        self._draw_lanes(lanes)
        self._draw_marks(latency, lanes)
        self._draw_legend()

    # --- places --------------------------------------------------------------------------------------------------

    def _take(self, inches: float) -> Axes:
        """Return axes on the next so many inches below what is there already."""
        self._top -= inches
        total = self._figure.get_figheight()
        place = (self._size.left / self._size.width, self._top / total, self._inner / self._size.width, inches / total)
        axes = self._figure.add_axes(place)
        axes.set_xlim(0, self._end)
        axes.xaxis.set_major_locator(MaxNLocator(self._size.ticks, steps=[1, 2, 5, 10], integer=self._end > 5))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s" if value else "0")
        axes.grid(axis="x", color=COLOURS["faint"], linewidth=0.7)
        return axes

    def _seconds(self, text: str) -> float:
        """Return how many seconds of the axis a text covers."""
        return len(text) * self._size.font * _CHARACTER / self._inner * self._end

    def _text(self, x: float, y: float, text: str, **looks: Any) -> None:
        """Write at so many inches from the left and above the lower edge of the figure."""
        self._figure.text(x / self._size.width, y / self._figure.get_figheight(), text, va="center", **looks)

    def _say(self, axes: Axes, text: str) -> None:
        axes.text(
            0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=COLOURS["red"], weight="bold"
        )

    # --- parts ---------------------------------------------------------------------------------------------------

    def _draw_title(self) -> None:
        drill = self._drill
        large = self._size.font + 3
        name = drill.name if drill.repetition == 1 else f"{drill.name}, repetition {drill.repetition}"
        verdict = f"{SIGNS[drill.status]} {drill.status}"
        tone = COLOURS[TONES[drill.status]]
        self._text(self._size.left, self._top - 0.18, one_line(name, 70), weight="bold", size=large)
        self._text(
            self._size.width - _RIGHT, self._top - 0.18, verdict, ha="right", color=tone, weight="bold", size=large
        )
        self._text(
            self._size.left, self._top - 0.39, one_line(_sentence(drill), 140), color=COLOURS["muted"], ha="left"
        )

    def _draw_latency(self, axes: Axes) -> None:
        buckets = series.acknowledging(self._drill)
        low = min([_LOW, *(bucket.median_ms for bucket in buckets if bucket.median_ms > 0)])
        high = max([_HIGH, *(bucket.longest_ms for bucket in buckets)])
        axes.set_yscale("log")
        axes.set_ylim(low * 0.9, high)
        shown = {tick: name for tick, name in _TICKS.items() if low <= tick <= high}
        axes.set_yticks(list(shown), list(shown.values()))
        axes.yaxis.minorticks_off()
        axes.grid(axis="y", color=COLOURS["faint"], linewidth=0.7)
        axes.tick_params(labelbottom=False)
        if self._size is WIDE:
            axes.set_ylabel("write latency", color=COLOURS["muted"])
            axes.yaxis.set_label_coords(-0.7 / self._inner, 0.5)
        if not buckets:
            self._say(axes, "no write was acknowledged" if self._drill.phases else "no samples")
            return
        for run in series.runs(buckets):
            at = [bucket.at + BUCKET / 2 for bucket in run]
            median = [max(bucket.median_ms, low) for bucket in run]
            longest = [max(bucket.longest_ms, low) for bucket in run]
            # A single bucket has no line.
            marker = "o" if len(run) == 1 else None
            axes.fill_between(at, median, longest, color=COLOURS["longest"], alpha=0.16, linewidth=0)
            axes.plot(at, longest, color=COLOURS["longest"], linewidth=0.8, marker=marker, markersize=2.5)
            axes.plot(at, median, color=COLOURS["median"], linewidth=1.3, marker=marker, markersize=2.5)
        self._draw_stalls(axes)

    def _draw_stalls(self, axes: Axes) -> None:
        found = series.stalls(self._drill)
        for stall in found:
            axes.axvspan(stall.began, stall.ended, color=COLOURS["red"], alpha=0.17, linewidth=0, zorder=0.6)
        taken: list[tuple[float, float]] = []
        for stall in sorted(found, key=lambda stall: -stall.length):
            wide = self._seconds(f" {stall.label}")
            # To the right of where it began, there the fault's mark is; towards the right edge to the left of its end.
            rightwards = stall.began + wide <= self._end
            began = stall.began if rightwards else stall.ended - wide
            if any(other_began < began + wide and began < other_ended for other_began, other_ended in taken):
                continue
            taken.append((began, began + wide))
            axes.annotate(
                stall.label,
                (stall.began if rightwards else stall.ended, 1),
                (4 if rightwards else -4, -4),
                **_ABOVE,
                ha="left" if rightwards else "right",
                va="top",
                color=COLOURS["red"],
                weight="bold",
            )

    def _draw_phases(self, axes: Axes) -> None:
        for phase in self._drill.phases:
            if phase.began > 0:
                self._draw_upright(axes, phase.began, _PHASES * 0.8, "axis", "-", 0.8)
            if self._seconds(phase.name) <= phase.ended - phase.began:
                middle = (phase.began + phase.ended) / 2
                place = (0, _PHASES * 72 * 0.42)
                axes.annotate(
                    phase.name, (middle, 1), place, **_ABOVE, ha="center", va="center", color=COLOURS["muted"]
                )

    def _draw_lanes(self, axes: Axes) -> None:
        lanes = series.lanes(self._drill)
        axes.set_ylim(max(_LANES, len(lanes)) - 0.5, -0.5)
        axes.set_yticks(range(len(lanes)), [one_line(name, 12) for name in lanes])
        axes.spines["left"].set_visible(False)
        if not lanes:
            self._say(axes, "no node was watched")
        for row, spans in enumerate(lanes.values()):
            for span in spans:
                looks: dict[str, Any] = {"facecolor": COLOURS[span.state], "linewidth": 0}
                if span.state == "silent":
                    looks |= {"edgecolor": COLOURS["hatch"], "hatch": "/////"}
                axes.broken_barh([(span.began, span.ended - span.began)], (row - 0.38, 0.76), **looks)
                self._name_state(axes, row, span.began, span.ended, span.state)

    def _name_state(
        self, axes: Axes, row: int, began: float, ended: float, state: Literal["master", "replica", "silent"]
    ) -> None:
        """Write a state into its bar, where no mark crosses the text; nothing if there is no room."""
        cuts = [began, *(at for at, _ in self._marks if began < at < ended), ended]
        left, right = max(itertools.pairwise(cuts), key=lambda part: part[1] - part[0])
        middle = (began + ended) / 2
        half = self._seconds(f"{state} ") / 2
        if any(abs(at - middle) < half for at, _ in self._marks):
            middle = (left + right) / 2
        if 2 * half > right - left:
            return
        box = {"facecolor": COLOURS["silent"], "edgecolor": "none", "pad": 1.2} if state == "silent" else None
        axes.text(
            middle,
            row,
            state,
            ha="center",
            va="center_baseline",
            color=COLOURS[f"on {state}"],
            weight="bold" if state == "master" else "normal",
            bbox=box,
        )

    def _draw_marks(self, latency: Axes, lanes: Axes) -> None:
        free = 0.0
        for index, (at, kind) in enumerate(self._marks):
            for axes in (latency, lanes):
                axes.axvline(at, color=COLOURS["ink"], linewidth=1.1, linestyle=_MARK_LINES[kind])
            self._draw_upright(lanes, at, _MARKS, "ink", _MARK_LINES[kind], 1.1)
            text = f"{'▼' if kind == 'inject' else '▲'} {kind} {at:.1f} s"
            wide = self._seconds(f" {text}")
            following = self._marks[index + 1][0] if index + 1 < len(self._marks) else self._end
            rightwards = at + wide <= following
            # Between two marks that are close there is room for none of the texts.
            if not rightwards and at - wide < free:
                free = at
                continue
            free = at + wide if rightwards else at
            lanes.annotate(
                text,
                (at, 1),
                (4 if rightwards else -4, _MARKS * 72 / 2),
                **_ABOVE,
                ha="left" if rightwards else "right",
                va="center",
                weight="bold",
            )

    def _draw_upright(self, axes: Axes, at: float, inches: float, colour: str, style: Any, width: float) -> None:
        """Draw a line upwards from the upper edge of axes."""
        looks = {"arrowstyle": "-", "linestyle": style, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (at, 1), (0, inches * 72), **_ABOVE, arrowprops={**looks, "color": COLOURS[colour]})

    def _draw_legend(self) -> None:
        y = self._top - _BOTTOM + 0.14
        x = self._size.left
        for colour, alpha, thick, name in zip(
            ("median", "longest", "red"), (1.0, 1.0, 0.3), (0.025, 0.025, 0.1), self._size.legend, strict=True
        ):
            total = self._figure.get_figheight()
            corner = (x / self._size.width, (y - thick / 2) / total)
            self._figure.add_artist(
                Rectangle(
                    corner,
                    0.18 / self._size.width,
                    thick / total,
                    facecolor=COLOURS[colour],
                    alpha=alpha,
                    linewidth=0,
                    transform=self._figure.transFigure,
                )
            )
            self._text(x + 0.24, y, name, color=COLOURS["muted"])
            x += 0.24 + len(name) * self._size.font * _CHARACTER * 0.9 + 0.14


def _sentence(drill: DrillResult) -> str:
    """Return the line below a chart's title."""
    if drill.status == "skipped":
        return drill.reason
    lost = drill.appender.lost + drill.trader.lost
    duplicated = drill.appender.duplicated + drill.trader.duplicated
    figures = f"longest stall {drill.availability.longest_stall:.2f} s  ·  {drill.appender.acknowledged:,} writes"
    return (
        f"{one_line(drill.reason or drill.summary, 70)}  ·  {figures}  ·  lost {lost:,}  ·  duplicated {duplicated:,}"
    )
