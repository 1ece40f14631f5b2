"""``python -m drills.soak``: random faults under live traffic for as long as you like, and a report."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .appender import volume
from .campaign import Field, Result, Tally
from .nemeses import NEMESES, Nemesis

#: So many failed faults are kept with all their logs; more would say the same again.
_EVIDENCE = 5

# Wide enough for the table; a line that a narrow terminal wraps can be read, a squeezed table cannot.
console = Console(highlight=False, width=max(150, Console().width))


class Soak:
    """A random run: faults drawn by a seed, each with its comparison, and the report."""

    def __init__(self, minutes: float, seed: int, report: Path, rate: float) -> None:
        self._minutes = minutes
        self._seed = seed
        self._report = report
        self._rate = rate
        self._random = random.Random(seed)  # noqa: S311 # reproducible by intent
        self._tallies: dict[str, Tally] = {}
        self._bad: list[dict[str, Any]] = []
        self._faults = 0
        self._stopping = False
        self._started = time.monotonic()
        self._scratch = Path("/tmp/soak")  # noqa: S108 # in a container of its own

    def stop(self, *_: object) -> None:
        """End after the fault under way."""
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True
        console.print("ending after this fault; once more to end at once")

    @property
    def over(self) -> bool:
        """Whether the time is up or somebody wants it to end."""
        return self._stopping or time.monotonic() - self._started > self._minutes * 60

    def run(self) -> bool:
        """Run to the end and write the report; return whether everything was right."""
        attempt = 0
        try:
            while not self.over:
                attempt += 1
                folder = self._scratch / str(attempt)
                with Field(folder, volume(self._rate), self._random) as field:
                    self._run_on(field)
                shutil.rmtree(folder, ignore_errors=True)
        except KeyboardInterrupt:
            self._bad.append({"nemesis": "", "problems": ["interrupted: ended before recovery"]})
        except Exception as error:
            self._bad.append({"nemesis": "", "problems": [f"the run itself failed: {error!r}"]})
            console.print_exception()
        summary = self._summary()
        self._report.mkdir(parents=True, exist_ok=True)
        (self._report / "soak.json").write_text(json.dumps(summary, indent=1) + "\n")
        self._print(summary)
        return not self._bad and self._faults > 0

    def _run_on(self, field: Field) -> None:
        """Faults until the end, or until one goes wrong: what follows that would prove nothing."""
        while not self.over:
            kind = self._draw()
            field.cluster.set_min_replicas(self._random.choice((0, 1)))
            if not self._take(field, field.strike(kind)):
                return
            self._faults += 1
        self._take(field, field.finish())

    def _draw(self) -> type[Nemesis]:
        kinds = list(NEMESES)
        # First each of them once, so that no run is without one of them.
        missing = [kind for kind in kinds if kind.name not in self._tallies]
        if missing:
            return self._random.choice(missing)
        return self._random.choices(kinds, weights=list(NEMESES.values()))[0]

    def _take(self, field: Field, result: Result) -> bool:
        self._tallies.setdefault(result.nemesis, Tally()).add(result)
        colour = "green" if result.good else "bold red"
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        console.print(
            f"[dim]{minutes:3d}:{seconds:02d} #{self._faults + 1:<4d}[/] [{colour}]{escape(str(result))}[/]",
            soft_wrap=True,
        )
        if not result.good:
            self._bad.append({"nemesis": result.nemesis, "problems": [*result.problems, result.verdict.differences()]})
            if len(self._bad) <= _EVIDENCE:
                field.keep_evidence(self._report / f"evidence-{len(self._bad)}", result)
        return result.good

    def _summary(self) -> dict[str, Any]:
        nemeses = {name: tally.summary() for name, tally in self._tallies.items()}
        total: Counter[str] = Counter()
        for summary in nemeses.values():
            total.update({name: value for name, value in summary.items() if isinstance(value, int)})
        # The comparison at the end is none.
        total["faults"] = self._faults
        return {
            "seed": self._seed,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "minutes": round((time.monotonic() - self._started) / 60, 1),
            "total": dict(total),
            "bad": self._bad,
            "nemeses": nemeses,
        }

    def _print(self, summary: dict[str, Any]) -> None:
        table = Table(title=f"seed {self._seed}, {summary['minutes']} minutes", box=box.SIMPLE)
        columns = ("faults", "acknowledged", "lost", "duplicated", "reordered", "phantom", "indeterminate", "replayed")
        for column in ("nemesis", *columns, "stall s", "first write s"):
            table.add_column(column, justify="left" if column == "nemesis" else "right")
        for name, counts in sorted(summary["nemeses"].items()):
            times = [counts["longest_stall_seconds"], counts["first_write_seconds"]]
            shown = [f"{each['median']:.2f} / {each['max']:.2f}" if each else "" for each in times]
            table.add_row(name, *(f"{counts[column]:,}" for column in columns), *shown)
        table.add_section()
        table.add_row("all", *(f"{summary['total'].get(column, 0):,}" for column in columns))
        console.print(table, "times: median / longest of a fault")
        for bad in summary["bad"]:
            console.print(f"[bold red]{escape(bad['nemesis'])}: {escape('; '.join(bad['problems']))}[/]")


def _main(
    minutes: Annotated[float, typer.Option(min=0.1, help="how long")] = 60.0,
    seed: Annotated[int | None, typer.Option(help="draws the same faults again; default: random, and printed")] = None,
    rate: Annotated[float, typer.Option(min=100, help="appends per second that are aimed at")] = 6000.0,
    report: Annotated[Path, typer.Option(help="folder of the report")] = Path("/reports"),
) -> None:
    """Break Redis, the network and the link at random under live traffic, and compare one by one.

    The exit status is 0 if every fault took effect, all recovered, and nothing was lost, duplicated or reordered.
    """
    seed = seed if seed is not None else random.SystemRandom().randrange(1 << 32)
    console.print(f"seed {seed}, {minutes:g} minutes")
    soak = Soak(minutes, seed, report, rate)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, soak.stop)
    good = soak.run()
    owner = os.environ.get("REPORT_OWNER", "")
    if owner:
        user, _, group = owner.partition(":")
        for path in [report, *report.rglob("*")]:
            os.chown(path, int(user), int(group))
    raise typer.Exit(0 if good else 1)


if __name__ == "__main__":
    typer.run(_main)
