"""The report as one page that needs nothing else: no network, no other file."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from drills.results import DrillReport


def render(report: DrillReport) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("drills.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(report=report)
