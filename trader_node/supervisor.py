"""Runs link and node as child processes; decides nothing itself (see :mod:`trader_node.supervision`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from trader_node.supervision import Action, Alarm, Child, Exit, Log, Signal, Start, Supervision

Launcher = Callable[[], "subprocess.Popen[bytes]"]


class Supervisor:
    """Carries out the decisions of a :class:`Supervision`.

    Parameters
    ----------
    launchers
        How to start each child.
    supervision
        The decisions.
    log
        Where messages for people go.

    """

    def __init__(
        self,
        launchers: dict[Child, Launcher],
        supervision: Supervision,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._launchers = launchers
        self._supervision = supervision
        self._log = log or (lambda text: print(f"supervisor: {text}", file=sys.stderr, flush=True))
        self._processes: dict[Child, subprocess.Popen[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._exit: asyncio.Future[int] | None = None

    async def run(self) -> int:
        """Start everything, and return the exit code when everything has ended."""
        loop = asyncio.get_running_loop()
        self._exit = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        self._act(self._supervision.begin())
        try:
            return await self._exit
        finally:
            for task in self._tasks:
                task.cancel()
            for process in self._processes.values():
                if process.poll() is None:
                    process.kill()

    def _stop(self, number: signal.Signals) -> None:
        self._act(self._supervision.stop(number))

    def _act(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Start(child, delay):
                    self._spawn(self._start(child, delay))
                case Signal(child, number):
                    self._signal(child, number)
                case Alarm(child, delay):
                    self._spawn(self._ring(child, delay))
                case Log(text):
                    self._log(text)
                case Exit(code):
                    if self._exit is not None and not self._exit.done():
                        self._exit.set_result(code)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # A defect of ours, or no process can be made: without supervision nothing may go on.
        if error is not None and self._exit is not None and not self._exit.done():
            self._exit.set_exception(error)

    async def _start(self, child: Child, delay: float) -> None:
        if delay:
            await asyncio.sleep(delay)
            if not self._supervision.wants(child):
                return
        process = self._launchers[child]()
        self._processes[child] = process
        self._act(self._supervision.started(child, time.monotonic()))
        returncode = await _wait(process)
        self._act(self._supervision.ended(child, returncode, time.monotonic()))

    async def _ring(self, child: Child, delay: float) -> None:
        await asyncio.sleep(delay)
        self._act(self._supervision.alarm(child))

    def _signal(self, child: Child, number: signal.Signals) -> None:
        process = self._processes.get(child)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


async def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the process's return code; a pidfd tells of its end without a thread and without polling."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, lambda: None if ended.done() else ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()
