"""The node's own record, for people and tests: ``python -m trader_node.report``.

Prints one JSON object with every position, order and account in the memory of the running node. With ``--quiesce`` new
orders are held back first, and the answer comes when everything is in Redis: what ``python -m trader_node.inspect
--json`` then reads from there must be equal. ``--resume`` lets orders go on.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trader_node.settings import Settings, SettingsError

_CHUNK = 1 << 20


class ReportError(RuntimeError):
    """The node gives no report; the message says why and what to do."""


def request(path: Path, command: dict[str, Any], timeout: float = 30.0) -> dict[str, Any]:
    """Ask the node at a Unix socket and return its answer.

    Parameters
    ----------
    path
        The node's report socket.
    command
        One of the requests that :mod:`trader_node.report_server` names.
    timeout
        Seconds to wait for each part of the answer.

    Raises
    ------
    ReportError
        If no node listens, it does not answer in time, or it refuses the command.

    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(json.dumps(command).encode() + b"\n")
            answer = json.loads(_read_line(connection))
    except TimeoutError:
        raise ReportError(f"the node does not answer within {timeout:g} s: its event loop hangs") from None
    except (OSError, ValueError) as error:
        raise ReportError(f"no node reports at {path} ({error}): is it running, and STATE_DIR the same?") from None
    if not isinstance(answer, dict) or "error" in answer:
        raise ReportError(f"the node refuses: {answer['error'] if isinstance(answer, dict) else answer}")
    return answer


def _read_line(connection: socket.socket) -> bytes:
    chunks: list[bytes] = []
    while not chunks or not chunks[-1].endswith(b"\n"):
        chunk = connection.recv(_CHUNK)
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks)


def main(
    quiesce: Annotated[
        bool, typer.Option("--quiesce", help="Hold back new orders and wait until all writes are in Redis.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Let new orders go on; prints no record.")] = False,
    ping: Annotated[bool, typer.Option("--ping", help="Identity and counters only.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 30.0,
) -> None:
    """Print the running node's own record as JSON."""
    command: dict[str, Any] = {"command": "report", "quiesce": quiesce}
    if resume or ping:
        command = {"command": "resume" if resume else "ping"}
    try:
        answer = request(Settings.from_env().report_socket, command, timeout)
    except (SettingsError, ReportError) as error:
        print(f"report: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(json.dumps(answer))


if __name__ == "__main__":
    typer.run(main)
