"""redis-benchmark, Redis' own load generator: how it is called and what it prints."""

from __future__ import annotations

import csv
import io
import math
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .samples import Cell, Latency, NoDataError

#: Different keys; enough that no single one is hot, few enough to write them all at once.
KEYS = 10_000


class TooShortError(NoDataError):
    """A run was over before its clock of milliseconds had moved."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one call measured."""

    #: Requests per second.
    rate: float
    latency: Latency
    #: CPU time of redis-benchmark itself, in seconds.
    generator_cpu: float


def arguments(cell: Cell, host: str, port: int, requests: int) -> list[str]:
    """Return the command line for a cell whose operation is SET, GET or RPUSH."""
    options = {
        "-h": host,
        "-p": port,
        "-t": cell.operation.lower(),
        "-c": cell.connections,
        "-P": cell.pipeline,
        "-n": requests,
        "-r": KEYS,
    }
    return ["redis-benchmark", *(str(part) for option in options.items() for part in option), "--csv"]


def parse(output: str, operation: str) -> tuple[float, Latency]:
    """Return requests per second and latency from what ``redis-benchmark --csv`` has printed.

    Raises
    ------
    TooShortError
        If all of it took less than a millisecond.
    NoDataError
        If there is no row for the operation, or it counted nothing.
    RuntimeError
        If a reply was an error: redis-benchmark counts those as requests like any other.

    """
    if "Error from server" in output or "error from server" in output:
        raise RuntimeError(f"redis-benchmark got errors for {operation}: {output.strip()[:500]}")
    lines = [line for line in output.splitlines() if line.startswith('"')]
    for row in csv.DictReader(io.StringIO("\n".join(lines))):
        if row["test"] == operation and math.isinf(float(row["rps"])):
            raise TooShortError(f"no data: {operation}: so few requests took no time that redis-benchmark can tell")
        if row["test"] == operation and float(row["rps"]) > 0:
            percentiles = (float(row[f"{name}_latency_ms"]) for name in ("p50", "p95", "p99"))
            return float(row["rps"]), Latency(*percentiles)
    raise NoDataError(f"no data: redis-benchmark printed no figures for {operation}: {output.strip()[:500]!r}")


def run(cell: Cell, host: str, port: int, requests: int) -> Result:
    """Run it and return what it measured. Raises as ``parse`` does."""
    command = arguments(cell, host, port, requests)
    with tempfile.TemporaryFile() as output:
        popen = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        # Its own use of the CPU comes with its exit status only.
        _, status, usage = os.wait4(popen.pid, 0)
        popen.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if popen.returncode:
        raise RuntimeError(f"redis-benchmark ended with {popen.returncode}: {text.strip()[:500]}")
    return Result(*parse(text, cell.operation), usage.ru_utime + usage.ru_stime)


def rate(cell: Cell, host: str, port: int) -> float:
    """Return the rate of a run that is as short as it can be. Raises as ``parse`` does."""
    requests = max(cell.connections * cell.pipeline * 4, 500)
    while True:
        try:
            return run(cell, host, port, requests).rate
        except TooShortError:
            requests *= 10


def fill(host: str, port: int, folder: Path) -> None:
    """Write every key that GET will ask for."""
    script = folder / "fill"
    script.write_bytes(
        b"".join(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$3\r\nxxx\r\n" % number for number in range(KEYS))
    )
    with script.open("rb") as commands:
        subprocess.run(
            ["redis-cli", "-h", host, "-p", str(port), "--pipe"],  # noqa: S607
            stdin=commands,
            stdout=subprocess.DEVNULL,
            check=True,
        )
