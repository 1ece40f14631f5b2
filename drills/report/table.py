"""The table of a run in Markdown: for READMEs, chats and the summaries of continuous integration."""

from __future__ import annotations

from collections.abc import Iterable

from drills.results import DrillReport, DrillResult

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
    by_name: dict[str, list[DrillResult]] = {}
    for result in report.drills:
        by_name.setdefault(result.name, []).append(result)
    rows = [_row(_COLUMNS), _row(["---", *["---:"] * (len(_COLUMNS) - 1)])]
    rows += [_row(_cells(name, runs)) for name, runs in sorted(by_name.items())]
    return "\n".join(rows) + "\n"


def _cells(name: str, runs: list[DrillResult]) -> list[str]:
    ran = [run for run in runs if run.status != "skipped"]
    if not ran:
        reason = runs[0].reason.replace("|", "\\|")
        return [f"`{name}`", f"skipped: {reason}", *[""] * (len(_COLUMNS) - 2)]
    times = [run.availability for run in ran]
    return [
        f"`{name}`",
        f"{sum(run.status == 'passed' for run in ran)} of {len(ran)}",
        _worst((each.longest_stall for each in times), 2),
        _worst((each.promotion for each, run in zip(times, ran, strict=True) if _moved(run)), 2),
        _worst((each.redundancy for each in times), 1),
        f"{sum(run.appender.acknowledged for run in ran):,}",
        f"{sum(run.trader.orders for run in ran):,}",
        f"{sum(run.appender.replayed + run.trader.replayed for run in ran):,}",
        str(sum(run.appender.lost + run.trader.lost for run in ran)),
        str(sum(run.appender.duplicated + run.trader.duplicated for run in ran)),
    ]


def _moved(run: DrillResult) -> bool:
    return any(check.name == "another node is master" for check in run.checks)


def _worst(values: Iterable[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known):.{digits}f}" if known else ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
