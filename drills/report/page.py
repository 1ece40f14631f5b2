"""The report as one page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from drills.results import DrillReport, DrillResult, Event

from . import chart, series, words
from .palette import SIGNS
from .summary import headline, rows
from .svg import inline

#: So many events of a drill are on the page; a browser stays quick with them, and all are in the JSON.
EVENTS = 300
#: Up to so many runs all are open at first, else those that failed.
_ALL_OPEN = 3


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of a drill as the page shows it."""

    drill: DrillResult
    #: Of the section on the page.
    anchor: str
    open: bool
    wide: Markup
    narrow: Markup
    events: Sequence[Event]

    @property
    def more(self) -> int:
        """How many events are not shown."""
        return len(self.drill.events) - len(self.events)

    @property
    def stall(self) -> float | None:
        """The longest stall, if there was anything that could."""
        return self.drill.availability.longest_stall if self.drill.appender.acknowledged else None


def render(report: DrillReport) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("drills.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for word in (words.seconds, words.duration, words.count, words.moment, words.visible, words.one_line):
        environment.filters[word.__name__] = word
    script = files("drills.report").joinpath("templates/page.js").read_text(encoding="utf-8")
    runs = [_run(report, index) for index in range(len(report.drills))]
    by_drill = {id(run.drill): run for run in runs}
    return environment.get_template("page.html.jinja").render(
        report=report,
        headline=headline(report),
        status=_status(report),
        signs=SIGNS,
        runs=runs,
        rows=[(row, [by_drill[id(drill)] for drill in row.runs]) for row in rows(report)],
        longest=max((run.stall or 0.0 for run in runs), default=0.0),
        script=Markup(script),  # noqa: S704 # a file of this package
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _status(report: DrillReport) -> str:
    if any(drill.status == "failed" for drill in report.drills):
        return "failed"
    return "passed" if report.passed else "skipped"


def _run(report: DrillReport, index: int) -> _Run:
    drill = report.drills[index]
    anchor = f"{re.sub(r'[^a-z0-9]+', '-', drill.name.lower()).strip('-')}-{index + 1}"
    charts = [Markup(), Markup()]
    if drill.status != "skipped":
        charts = [
            Markup(inline(chart.figure([drill], size), f"{anchor}-{size.width}", _label(drill)))  # noqa: S704 # ours
            for size in (chart.WIDE, chart.NARROW)
        ]
    opened = drill.status == "failed" or len(report.drills) <= _ALL_OPEN
    return _Run(drill, anchor, opened, *charts, _shown(drill))


def _label(drill: DrillResult) -> str:
    """Return what the chart shows, for those who do not see it."""
    stalls = ", ".join(f"{stall.label} from second {stall.began:.1f}" for stall in series.stalls(drill)) or "no stall"
    masters = [
        f"{node} from second {span.began:.1f}"
        for node, spans in series.lanes(drill).items()
        for span in spans
        if span.state == "master"
    ]
    return f"Timeline: {stalls}; master: {', '.join(masters) or 'none seen'}"


def _shown(drill: DrillResult) -> Sequence[Event]:
    """Return the events for the page in order of time; where there are too many, the drill's own stay."""
    events = sorted(drill.events, key=lambda event: event.at)
    if len(events) <= EVENTS:
        return events
    own = [event for event in events if event.source == "drill"][:EVENTS]
    others = [event for event in events if event.source != "drill"][: EVENTS - len(own)]
    return sorted([*own, *others], key=lambda event: event.at)
