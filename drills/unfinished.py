"""One run of drills at a time on a stack, and a note of what is being broken, for the next start after a crash."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO


class BusyError(RuntimeError):
    """Another run of drills breaks this stack at the moment."""


class Unfinished:
    """Held while drills run on a stack.

    The note stays where a run was killed: then :attr:`left` names the drill, and everything has to be healed first.

    Raises
    ------
    BusyError
        On entering, if another run holds it.

    """

    def __init__(self, folder: Path, project: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._note = folder / f"drill-{project}.json"
        self._lock_path = folder / f"drill-{project}.lock"
        self._project = project
        self._lock: IO[str] | None = None
        #: The drill that an earlier run did not finish; empty if there is none.
        self.left = ""

    def __enter__(self) -> Unfinished:
        """Take hold of the stack."""
        self._lock = self._lock_path.open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise BusyError(
                f'another run of drills is breaking "{self._project}": wait until it has finished'
            ) from None
        if self._note.exists():
            try:
                self.left = str(json.loads(self._note.read_text())["drill"])
            except (ValueError, KeyError):
                self.left = "a drill"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of it."""
        assert self._lock is not None
        self._lock.close()

    def begin(self, drill: str) -> None:
        """Take note that a drill is about to break something."""
        self._note.write_text(json.dumps({"drill": drill, "pid": os.getpid()}) + "\n")

    def healed(self) -> None:
        """Take note that nothing is broken any more."""
        self._note.unlink(missing_ok=True)
