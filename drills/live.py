"""What the terminal shows while drills run."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType

from redis.exceptions import RedisError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from .results import DrillResult
from .runner import Drill

#: Seconds over which the rate of writes is taken, and between two looks at what a master lacks.
_RATE_OVER, _LOOK_EVERY = 1.0, 0.5


class LiveView:
    """Phase, master, rate of writes, present stall and what the master lacks; in a terminal it refreshes in place.

    Elsewhere (a log, a pipe) it prints a line per phase.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._number = 0
        self._name = ""
        self._phase = ""
        self._phase_began = 0.0
        self._drill: Drill | None = None
        self._acknowledged: deque[tuple[float, int]] = deque()
        self._missing: int | None = None
        self._ended = threading.Event()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=5, transient=True)

    def __enter__(self) -> LiveView:
        """Start showing."""
        if self._console.is_terminal:
            self._live.start()
            threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop showing."""
        self._ended.set()
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, drill: Drill, name: str) -> None:
        """Show another drill from now on."""
        self._number += 1
        self._acknowledged.clear()
        self._missing = None
        self._drill, self._name = drill, name
        self.phase("begin")

    def phase(self, phase: str) -> None:
        """Take note that a phase began."""
        self._phase, self._phase_began = phase, time.monotonic()
        if not self._console.is_terminal and phase != "begin":
            self._console.print(f"[dim]    {escape(phase)}[/]", soft_wrap=True)

    def ended(self, result: DrillResult) -> None:
        """Print the line of a drill that has ended."""
        self._drill = None
        self._console.print(line(result), soft_wrap=True)

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY):
            drill = self._drill
            if drill is None or not drill.observer.masters:
                continue
            try:
                self._missing = drill.traffic.missing_on(drill.observer.masters[-1])
            except (RedisError, OSError):
                self._missing = None

    def _render(self) -> RenderableType:
        drill = self._drill
        if drill is None:
            return ""
        tick, now = drill.traffic.tick, time.time()
        self._acknowledged.append((now, tick.acknowledged))
        while self._acknowledged[0][0] < now - _RATE_OVER:
            self._acknowledged.popleft()
        first = self._acknowledged[0]
        rate = (tick.acknowledged - first[1]) / (now - first[0]) if now > first[0] else 0.0
        stall = now - tick.last - drill.traffic.clock if tick.last is not None else 0.0
        table = Table.grid(padding=(0, 3))
        for title in ("phase", "master", "writes/s", "stall", "acknowledged", "missing on the master"):
            table.add_column(title, min_width=len(title))
        table.add_row(
            *(f"[dim]{title}[/]" for title in ("phase", "master", "writes/s", "stall", "acknowledged", "missing"))
        )
        table.add_row(
            f"[bold]{escape(self._phase)}[/] {time.monotonic() - self._phase_began:.0f} s",
            " ".join(drill.observer.masters) or "[red]none[/]",
            f"{rate:,.0f}",
            f"[{'red' if stall > 1 else 'green'}]{max(0.0, stall):.1f} s[/]",
            f"{tick.acknowledged:,}",
            "?" if self._missing is None else f"[{'yellow' if self._missing else 'green'}]{self._missing:,}[/]",
        )
        return Group(f"[bold]{escape(self._name)}[/]  [dim]{self._number} of {self._total}[/]", table)


def line(result: DrillResult) -> str:
    """Return one line about a result, with rich's markup."""
    if result.status == "skipped":
        return f"[yellow]skipped[/] {result.name}: {escape(result.reason)}"
    counts, times = result.appender, result.availability
    colour = "green" if result.status == "passed" else "bold red"
    text = (
        f"[{colour}]{result.status}[/]  {result.name}: stall {times.longest_stall:.2f} s, "
        f"{counts.acknowledged:,} appends and {result.trader.orders:,} orders compared, "
        f"lost {counts.lost + result.trader.lost}, duplicated {counts.duplicated + result.trader.duplicated}, "
        f"replayed {counts.replayed + result.trader.replayed} [dim]({result.duration:.0f} s)[/]"
    )
    return text if result.status == "passed" else f"{text}\n        [red]{escape(result.reason)}[/]"
