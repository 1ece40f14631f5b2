"""Draws a report again from its JSON: ``python -m drills.report drills.json --output DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from drills.results import SCHEMA_VERSION, DrillReport

from . import write

app = typer.Typer(add_completion=False)


@app.command()
def draw(
    source: Annotated[Path, typer.Argument(metavar="drills.json", help="what a run of the drills wrote")],
    output: Annotated[Path | None, typer.Option(help="the folder to write to; default: that of the file")] = None,
) -> None:
    """Write the page, the pictures and the JUnit XML of a run again."""
    try:
        report = DrillReport.model_validate_json(source.read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"{source} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise typer.BadParameter(
            f"{source} is no report of the drills in schema version {SCHEMA_VERSION}: {where}: {first['msg']}"
        ) from None
    folder = output or source.parent
    try:
        write(report, folder)
    except OSError as error:
        raise typer.BadParameter(f"{folder} cannot be written to: {error.strerror}", param_hint="--output") from None
    typer.echo(f"{folder / 'drills.html'}")


if __name__ == "__main__":
    app()
