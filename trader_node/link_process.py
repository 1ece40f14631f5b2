"""A link as a supervised child of the user's own process, for :mod:`trader_node.database`."""

from __future__ import annotations

import atexit
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trader_node.link.access import CREDENTIALS, URL
from trader_node.link.url import parse_redis_url
from trader_node.processes import start_module
from trader_node.supervision import EXIT_MISCONFIGURED, describe

_LISTENING = re.compile(rb"listening on \S+")
_DRAIN_SECS = 7.0
_LONGEST_BACKOFF_SECS = 2.0

Launcher = Callable[[], "subprocess.Popen[bytes]"]


class LinkError(RuntimeError):
    """The link does not start; the message says why and what to do."""


class LinkProcess:
    """A link that is started again when it dies, and drained when this process ends.

    Parameters
    ----------
    launch
        Starts the child with its standard error as a pipe.

    """

    def __init__(self, launch: Launcher) -> None:
        self._launch = launch
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._last_line = ""
        self._exit_code: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper = threading.Thread(target=self._keep, name="link-supervisor", daemon=True)

    def start(self, timeout: float) -> None:
        """Start the link and wait until it listens.

        Parameters
        ----------
        timeout
            Seconds to wait.

        Raises
        ------
        LinkError
            If it ends at once, or does not listen in time. A Redis that is down is no error: the link waits for it.

        """
        self._keeper.start()
        atexit.register(self.stop)
        deadline = time.monotonic() + timeout
        while not self._ready.wait(0.02):
            if self._exit_code is not None:
                raise LinkError(
                    self._last_line.removeprefix("link: ") or f"the link has ended: {describe(self._exit_code)}"
                )
            if time.monotonic() >= deadline:
                self.stop()
                raise LinkError(f"the link does not listen after {timeout:g} s; it said last: {self._last_line!r}")

    def stop(self) -> None:
        """Drain and end the link; later calls do nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_DRAIN_SECS)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._keeper.is_alive():
            self._keeper.join(_DRAIN_SECS)

    def _keep(self) -> None:
        backoff = 0.0
        while not self._stopping.is_set():
            started = time.monotonic()
            # From this thread, which lives as long as the process: the kernel ends the child with the thread.
            self._process = self._launch()
            self._forward(self._process)
            returncode = self._process.wait()
            if self._stopping.is_set():
                return
            if not self._ready.is_set() or (returncode == EXIT_MISCONFIGURED and backoff == 0.0):
                self._exit_code = returncode
                return
            backoff = 0.0 if time.monotonic() - started > 10 else min(backoff * 2 + 0.1, _LONGEST_BACKOFF_SECS)
            print(f"link: DIED ({describe(returncode)}), starting it again", file=sys.stderr, flush=True)
            self._stopping.wait(backoff)

    def _forward(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._last_line = line.decode(errors="replace").strip()
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
            if _LISTENING.search(line):
                self._ready.set()


def free_port() -> int:
    """Return a loopback port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def access_environment(url: str) -> dict[str, str]:
    """Return our own environment with the URL in it; a password in the URL stands instead of one beside it."""
    hidden = CREDENTIALS if parse_redis_url(url).password is not None else ()
    return {name: value for name, value in os.environ.items() if name not in hidden} | {URL: url}


def launcher(url: str, port: int, journal_dir: Path, link_id: str) -> Launcher:
    """Return what starts a link to ``url`` at a loopback port."""
    arguments = ["--listen", f"127.0.0.1:{port}", "--journal-dir", str(journal_dir), "--id", link_id, "--http", ""]
    # Through the environment, which only this user can read, and not as an argument, which everyone can.
    # Nautilus makes no use of replies, and what it has not handed over dies with it: so answer from the journal. And it
    # drops a batch that is refused: so hold what Redis has no memory for.
    env = {"LINK_ACKNOWLEDGE_HELD_AFTER": "0.5", "LINK_ON_OOM": "hold"} | access_environment(url)
    return lambda: start_module("trader_node.link", arguments, env, stderr=subprocess.PIPE)
