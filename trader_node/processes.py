"""Child processes that neither outlive their parent nor share its terminal's signals."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

_PR_SET_PDEATHSIG = 1


def _die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the parent's thread that made it ends (Linux only)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died between fork and prctl
        os._exit(1)


def start_module(
    module: str,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``python -m module`` with this interpreter.

    Parameters
    ----------
    module
        Module to run.
    arguments
        Its arguments. Never a password: every user of the machine can read them.
    env
        Environment, by default our own.
    stderr
        As for :class:`subprocess.Popen`.

    Raises
    ------
    OSError
        If no process can be made.

    """
    parent = os.getpid()
    return subprocess.Popen(  # noqa: S603 - our own interpreter and modules
        [sys.executable, "-m", module, *arguments],
        env=env,
        stderr=stderr,
        stdin=subprocess.DEVNULL,
        # Ctrl-C goes to a whole process group: the link must not end before the node has written its last.
        start_new_session=True,
        preexec_fn=lambda: _die_with_parent(parent),
    )
