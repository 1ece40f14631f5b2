"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .results import Results
from .samples import ROUTES, Cell, NoDataError, Route

#: As people call the routes.
NAMES: dict[Route, str] = {"direct": "direct", "haproxy": "HAProxy", "link": "link"}
#: A generator that is busy for more than this share of the time may have been what limited a cell.
_BUSY = 0.9


def markdown(results: Results, chart: str, command: str) -> str:
    """Return the whole report; ``chart`` is the file of the picture, ``command`` makes all of it again.

    Raises
    ------
    NoDataError
        If a figure has no samples.

    """
    parts = [
        "# Direct, HAProxy and the link in one run",
        f"Made by `{command}`. " + " ".join(f"{name}: {value}." for name, value in results.about.items()),
        f"![Chart]({chart})",
        *_losses(results),
        *_rates(results),
        *_latencies(results),
        *_costs(results),
        *_memory(results),
        *_own_path(results),
        *_fsync(results),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers. Raises ``NoDataError`` without rows."""
    body = [list(row) for row in rows]
    if not body:
        raise NoDataError(f"no data: table of {', '.join(head)}")
    widths = [max(len(row[index]) for row in [list(head), *body]) for index in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(head), rule, *map(line, body)])


def number(value: float) -> str:
    """Return a number with three significant digits, or all digits of its whole part."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.01 else f"{value:.3f}"


def _cells(results: Results) -> list[Cell]:
    return list(dict.fromkeys(cell for cell, _ in results.cells))


def _columns(cell: Cell) -> list[str]:
    return [cell.operation, str(cell.pipeline), str(cell.connections)]


_CELL_HEAD = ["operation", "pipeline", "connections"]


def _rates(results: Results) -> list[str]:
    rows = []
    slow_generator = False
    for cell in _cells(results):
        figures = [results.cell(cell, route) for route in ROUTES]
        busy = [figure.generator_busy > _BUSY for figure in figures]
        slow_generator |= any(busy)
        rows.append(
            [
                *_columns(cell),
                *(number(figure.rate) + ("*" if limit else "") for figure, limit in zip(figures, busy, strict=True)),
                f"{results.rate_ratio(cell, 'link', 'haproxy'):.2f}",
                f"{results.rate_ratio(cell, 'link', 'direct'):.2f}",
                f"{results.rate_ratio(cell, 'haproxy', 'direct'):.2f}",
            ]
        )
    head = [*_CELL_HEAD, *(NAMES[route] for route in ROUTES), "link / HAProxy", "link / direct", "HAProxy / direct"]
    note = ["\\* The load generator was busy nearly all the time: it may be the limit."] if slow_generator else []
    return ["## Requests per second", *note, table(head, rows)]


def _latencies(results: Results) -> list[str]:
    rows = []
    for cell in _cells(results):
        figures = [results.cell(cell, route).latency for route in ROUTES]
        rows.append(
            [
                *_columns(cell),
                *(number(figure.p50) for figure in figures),
                f"{figures[2].p50 / figures[1].p50:.2f}" if figures[1].p50 else "-",
                *(number(figure.p99) for figure in figures),
                f"{figures[2].p99 / figures[1].p99:.2f}" if figures[1].p99 else "-",
            ]
        )
    names = [NAMES[route] for route in ROUTES]
    head = [
        *_CELL_HEAD,
        *(f"p50 {name}" for name in names),
        "link / HAProxy",
        *(f"p99 {name}" for name in names),
        "link / HAProxy",
    ]
    return ["## Latency under that load, ms", table(head, rows)]


def _costs(results: Results) -> list[str]:
    rows = []
    for cell in _cells(results):
        figures = {route: results.cell(cell, route) for route in ROUTES}
        proxies = [figures[route].proxy_cpu for route in ("haproxy", "link")]
        if any(cpu is None for cpu in proxies):
            raise NoDataError(f"no data: CPU time of a proxy, {cell}")
        rows.append(
            [
                *_columns(cell),
                *(number(cpu) for cpu in proxies if cpu is not None),
                *(number(figures[route].redis_cpu) for route in ROUTES),
            ]
        )
    head = [*_CELL_HEAD, "HAProxy", "link", "Redis, direct", "Redis, HAProxy", "Redis, link"]
    return ["## CPU time per request, µs", table(head, rows)]


def _memory(results: Results) -> list[str]:
    rows = []
    for route, idle in results.idle_rss.items():
        samples = [sample for (_, of), runs in results.cells.items() if of == route for sample in runs]
        peak = max(samples, key=lambda sample: sample.proxy_rss or 0)
        if peak.proxy_rss is None:
            raise NoDataError(f"no data: memory of {route}")
        journal = "-" if peak.journal_bytes is None else f"{peak.journal_bytes / 1e6:.1f}"
        rows.append([NAMES[route], f"{idle / 1e6:.1f}", f"{peak.proxy_rss / 1e6:.1f}", journal])
    head = ["process", "after its start", "highest after a run", "of that, bytes of the journal's entries"]
    return ["## Resident memory, MB", table(head, rows)]


def _own_path(results: Results) -> list[str]:
    rows = []
    for request in dict.fromkeys(request for request, _ in results.own_path):
        for route in ROUTES:
            figures = results.path(request, route)
            percentiles = (figures.p50, figures.p95, figures.p99)
            rows.append([f"{request}, {NAMES[route]}", *map(number, percentiles)])
    text = (
        "A batch of 42 commands as Nautilus sends it, and single reads of an event and of a position, one in flight "
        "and 5 ms apart, through the whole path."
    )
    return ["## One node's own requests, ms", text, table(["request", "p50", "p95", "p99"], rows)]


def _fsync(results: Results) -> list[str]:
    rows = []
    for mode in results.fsync:
        figures = results.fsync_mode(mode)
        rows.append([mode, *(number(each) for each in (figures.rate, figures.latency.p50, figures.latency.p99))])
    return ["## The link's journal: SET, 20 connections", table(["fsync", "per second", "p50 ms", "p99 ms"], rows)]


def _losses(results: Results) -> list[str]:
    rows = []
    failovers = 0
    for scenario in results.scenarios():
        for route in ROUTES:
            losses = results.losses(scenario, route)
            failovers += len(losses) if route == "link" else 0
            rows.append(
                [
                    f"{scenario.fault}, min-replicas {scenario.min_replicas}, {NAMES[route]}",
                    number(results.lost_per_failover(scenario, route)),
                    " ".join(str(loss.lost) for loss in losses),
                    str(sum(loss.lost_acknowledged for loss in losses)),
                    str(sum(loss.duplicated for loss in losses)),
                    str(sum(loss.handed_over for loss in losses)),
                    " ".join(str(loss.elections) for loss in losses),
                    f"{results.recovery(scenario, route):.2f}",
                ]
            )
    head = [
        "fault of the master",
        "lost per failover",
        "each",
        "of those acknowledged",
        "duplicated",
        "handed over",
        "elections",
        "s to the first write",
    ]
    text = (
        f"{failovers} failovers. In each of them three writers open 100 positions a second, one on each route, and "
        "hand them over in a batch every 100 ms. Like Nautilus, they drop a batch that meets an error. Lost: handed "
        "over, and not in Redis when all is well again. The time is from the fault to the first write that the new "
        "master holds; where the clients were cut off together with the old one, from the end of that. Two "
        "elections: the Sentinels replaced the master a second time right after the first."
    )
    reasons = [
        f"- {NAMES[route]}: " + "; ".join(f"{count} {error}" for error, count in found.most_common())
        for route in ROUTES
        if (found := results.reasons(route))
    ]
    why = "Positions in dropped batches, by the error that the batch met:\n\n" + "\n".join(reasons)
    return ["## Positions lost per failover", text, table(head, rows), *([why] if reasons else [])]
