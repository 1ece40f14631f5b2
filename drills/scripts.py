"""The operator's commands (``./scripts/...``), run as an operator would, on the stack that a drill works on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Timer

from .stack import Stack

#: Seconds that a command may take.
_SECONDS = 400.0
#: Characters of its output that an error quotes.
_QUOTED = 1500


def run_script(
    root: Path,
    environment: Mapping[str, str],
    name: str,
    *arguments: str,
    seconds: float = _SECONDS,
    says: Callable[[str], None] = lambda _: None,
) -> str:
    """Run ``root/scripts/name`` and return all that it printed; ``says`` is told each line as it comes.

    Whoever interrupts us, and ``seconds``, terminate it: it gives up its lock and says how to go on from there.

    Raises
    ------
    RuntimeError
        If it fails; with the end of what it printed.

    """
    with subprocess.Popen(
        [str(root / "scripts" / name), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environment),
        process_group=0,
    ) as process:
        assert process.stdout is not None
        deadline = Timer(seconds, os.killpg, (process.pid, signal.SIGTERM))
        deadline.start()
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                says(line)
            status = process.wait()
        except BaseException:
            # What heals afterwards needs the lock that the command holds.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
        finally:
            deadline.cancel()
    said = "".join(lines)
    if status:
        command = " ".join((f"./scripts/{name}", *arguments))
        raise RuntimeError(f"{command} failed: {said.strip()[-_QUOTED:]}")
    return said


def run_on(
    stack: Stack,
    name: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    says: Callable[[str], None] = lambda _: None,
) -> str:
    """Run a command on a stack, with its settings and what ``environment`` adds; see :func:`run_script`."""
    return run_script(stack.root, {**stack.environment, **(environment or {})}, name, *arguments, says=says)
