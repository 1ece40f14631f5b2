"""The report of a run: JSON, JUnit XML, one page and its pictures, all made from the same ``DrillReport``."""

from __future__ import annotations

from pathlib import Path

from drills.results import DrillReport

from . import junit, page

__all__ = ["write"]


def write(report: DrillReport, folder: Path) -> None:
    """Write ``drills.json``, ``junit.xml`` and ``drills.html`` into a folder, which is made if there is none.

    The JSON comes first: the rest can be drawn again from it by ``python -m drills.report drills.json``. Raises
    ``OSError`` if the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "drills.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    junit.write(report, folder / "junit.xml")
    (folder / "drills.html").write_text(page.render(report), encoding="utf-8")
