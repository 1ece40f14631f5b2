"""The report of a run: JSON, JUnit XML, one page and its pictures, all made from the same ``DrillReport``."""

from __future__ import annotations

import re
from pathlib import Path

from drills.results import DrillReport

from . import chart, junit, overview, page, table

__all__ = ["write"]

#: Up to so many timelines are one picture that can still be read in a chat.
_STACKED = 4
#: Keeps Matplotlib's version out of the pictures: the same data are the same bytes.
_METADATA = {"Software": None}


def write(report: DrillReport, folder: Path) -> None:
    """Write the report into a folder, which is made if there is none.

    ``drills.json`` comes first: the rest can be drawn again from it by ``python -m drills.report drills.json``. Then
    ``junit.xml``, the table ``drills.md``, the page ``drills.html``, the picture ``drills.png`` (the timelines of a few
    drills, or one row for each of many) and ``<name>-<repetition>.png`` with the timeline of each drill. Raises
    ``OSError`` if the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "drills.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    junit.write(report, folder / "junit.xml")
    (folder / "drills.md").write_text(table.markdown(report), encoding="utf-8")
    (folder / "drills.html").write_text(page.render(report), encoding="utf-8")
    done = [drill for drill in report.drills if drill.status != "skipped"]
    few = 0 < len(done) == len(report.drills) <= _STACKED
    picture = chart.figure(done, titled=True) if few else overview.figure(report)
    picture.savefig(folder / "drills.png", metadata=_METADATA)
    for drill in done:
        name = re.sub(r"[^\w.-]+", "-", drill.name).strip("-.") or "drill"
        one = chart.figure([drill], titled=True)
        one.savefig(folder / f"{name}-{drill.repetition}.png", metadata=_METADATA)
