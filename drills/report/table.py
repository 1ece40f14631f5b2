"""The table of a run in Markdown: for READMEs, chats and the summaries of continuous integration."""

from __future__ import annotations

from collections.abc import Iterable

from drills.results import DrillReport

from .overall import Overall, by_drill, seconds

_COLUMNS = (
    "drill",
    "passed",
    "longest stall, s",
    "promotion, s",
    "full redundancy, s",
    "appends",
    "orders",
    "replayed",
    "lost",
    "duplicated",
)


def markdown(report: DrillReport) -> str:
    """Return one row per drill: the worst time and the sums of all its runs."""
    rows = [_row(_COLUMNS), _row(["---", *["---:"] * (len(_COLUMNS) - 1)])]
    rows += [_row(_cells(drill)) for drill in sorted(by_drill(report), key=lambda drill: drill.name)]
    return "\n".join(rows) + "\n"


def _cells(drill: Overall) -> list[str]:
    if not drill.runs:
        reason = drill.skipped.replace("|", "\\|")
        return [f"`{drill.name}`", f"skipped: {reason}", *[""] * (len(_COLUMNS) - 2)]
    return [
        f"`{drill.name}`",
        f"{drill.passed} of {drill.runs}",
        seconds(drill.longest_stall, 2),
        seconds(drill.promotion, 2),
        seconds(drill.redundancy, 1),
        f"{drill.appends:,}",
        f"{drill.orders:,}",
        f"{drill.replayed:,}",
        str(drill.lost),
        str(drill.duplicated),
    ]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
