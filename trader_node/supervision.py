"""The supervisor's decisions, without processes: events and clock readings go in, actions come out.

Two children: the link, which holds what Redis has not taken yet, and the node, which writes through the link. So the
link starts first and is restarted whenever it dies, and it ends last, when the node has nothing more to write.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum

#: Exit code of a child whose settings are wrong: starting it again would change nothing.
EXIT_MISCONFIGURED = 2


class Child(Enum):
    """A supervised process."""

    LINK = "link"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Timing:
    """Bounds, in seconds.

    Attributes
    ----------
    node_stop
        From SIGTERM to SIGKILL of the node. Nautilus can hang at its end while Redis is down.
    link_stop
        From SIGTERM to SIGKILL of the link, longer than the link's own bound for draining.
    link_steady
        Run time after which a death of the link counts as the first.
    link_backoff
        Delays before the restarts after the first death, the second, and so on; the last one repeats.

    """

    node_stop: float = 10.0
    link_stop: float = 7.0
    link_steady: float = 10.0
    link_backoff: tuple[float, ...] = (0.0, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Start:
    """Start a child, ``delay`` seconds from now."""

    child: Child
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to a child."""

    child: Child
    number: signal.Signals


@dataclass(frozen=True, slots=True)
class Alarm:
    """Call :meth:`Supervision.alarm` for a child after some seconds, unless it has ended."""

    child: Child
    delay: float


@dataclass(frozen=True, slots=True)
class Log:
    """Tell people."""

    text: str


@dataclass(frozen=True, slots=True)
class Exit:
    """Everything has ended: exit with this code."""

    code: int


Action = Start | Signal | Alarm | Log | Exit


class Supervision:
    """Decides what to start, signal and end.

    Parameters
    ----------
    timing
        Bounds.

    """

    def __init__(self, timing: Timing | None = None) -> None:
        self._timing = timing or Timing()
        self._running: set[Child] = set()
        self._stopping = False
        self._code: int | None = None
        self._link_started = 0.0
        self._link_deaths = 0

    def __repr__(self) -> str:
        """Return the live state."""
        running = ",".join(sorted(child.value for child in self._running)) or "nothing"
        return f"<Supervision running={running} stopping={self._stopping} code={self._code}>"

    def begin(self) -> list[Action]:
        """Start everything; the node waits for the link by itself, after its imports."""
        return [Start(Child.LINK), Start(Child.NODE)]

    def started(self, child: Child, now: float) -> list[Action]:
        """Note that a child runs since ``now`` (seconds, any monotonic clock)."""
        self._running.add(child)
        if child is Child.LINK:
            self._link_started = now
        return []

    def wants(self, child: Child) -> bool:
        """Return whether a delayed start is still due."""
        return child not in self._running and self._code is None and not self._stopping_without_node()

    def stop(self, number: signal.Signals) -> list[Action]:
        """Handle a signal that asks us to end; a second one changes nothing."""
        if self._stopping:
            return []
        self._stopping = True
        if Child.NODE in self._running:
            return [
                Log(f"{number.name}: stopping the node, at most {self._timing.node_stop:g} s"),
                Signal(Child.NODE, signal.SIGTERM),
                Alarm(Child.NODE, self._timing.node_stop),
            ]
        self._code = 0 if self._code is None else self._code
        return self._end_link()

    def alarm(self, child: Child) -> list[Action]:
        """Handle the end of a child's time to stop."""
        if child not in self._running:
            return []
        if child is Child.NODE:
            text = (
                f"the node has not stopped within {self._timing.node_stop:g} s, as when Redis is down: killing it. "
                "What it had not handed to the link yet is lost."
            )
        else:
            text = (
                f"the link has not stopped within {self._timing.link_stop:g} s: killing it. "
                "What Redis has not taken stays in its journal."
            )
        return [Log(text), Signal(child, signal.SIGKILL)]

    def ended(self, child: Child, returncode: int, now: float) -> list[Action]:
        """Handle the end of a child; a negative return code is the signal that ended it."""
        self._running.discard(child)
        return self._node_ended(returncode) if child is Child.NODE else self._link_ended(returncode, now)

    def _node_ended(self, returncode: int) -> list[Action]:
        log = [] if returncode == 0 else [Log(f"the node has ended: {describe(returncode)}")]
        if self._code is None:
            # Our own SIGTERM may meet the node before it has a handler for it: that is a clean stop too.
            asked = self._stopping and returncode == -signal.SIGTERM
            self._code = 0 if asked else exit_code(returncode)
        return [*log, *self._end_link()]

    def _link_ended(self, returncode: int, now: float) -> list[Action]:
        if self._stopping_without_node():
            log = [] if returncode == 0 else [Log(f"the link has ended: {describe(returncode)}")]
            return [*log, Exit(self._code or 0)]
        if returncode == EXIT_MISCONFIGURED and self._link_deaths == 0:
            # It has said what is wrong. Later the same code can only be a passing trouble, such as a port in use.
            self._code = EXIT_MISCONFIGURED
            if Child.NODE not in self._running:
                return [Exit(EXIT_MISCONFIGURED)]
            return [Signal(Child.NODE, signal.SIGTERM), Alarm(Child.NODE, self._timing.node_stop)]
        self._link_deaths = 1 if now - self._link_started >= self._timing.link_steady else self._link_deaths + 1
        backoff = self._timing.link_backoff
        delay = backoff[min(self._link_deaths, len(backoff)) - 1]
        return [
            Log(
                f"THE LINK HAS DIED: {describe(returncode)}. Starting it again; its journal holds what it had "
                "accepted, but a batch that the node was just handing over may be lost."
            ),
            Start(Child.LINK, delay),
        ]

    def _stopping_without_node(self) -> bool:
        return self._code is not None and Child.NODE not in self._running

    def _end_link(self) -> list[Action]:
        if Child.LINK not in self._running:
            return [Exit(self._code or 0)]
        return [Signal(Child.LINK, signal.SIGTERM), Alarm(Child.LINK, self._timing.link_stop)]


def exit_code(returncode: int) -> int:
    """Return the code that a shell would give for a process that ended with ``returncode``."""
    return 128 - returncode if returncode < 0 else returncode


def describe(returncode: int) -> str:
    """Return how a process ended, for people."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
