"""The heartbeat file: one ``name=value`` per line, so that a shell script can read it without starting Python."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path


class NodeState(StrEnum):
    """What the node is doing."""

    #: Waiting for the link, or through it for Redis, to answer.
    WAITING = "WAITING"
    #: Loading the cache and building the clients; its event loop does not run yet.
    STARTING = "STARTING"
    #: Trading.
    RUNNING = "RUNNING"
    #: Closing down.
    STOPPING = "STOPPING"


@dataclass(slots=True)
class Heartbeat:
    """A node's sign of life.

    Attributes
    ----------
    time
        When it was written, whole seconds of UNIX time.
    state
        What the node is doing.
    since
        Since when it has been in that state, whole seconds of UNIX time.
    paper
        1 for the paper market, which must always have quotes, 0 for a user's own node.
    expect_fills
        1 if the node is set to trade all the time and is not paused.
    fills_since
        Since when ``expect_fills`` is 1, whole seconds of UNIX time.
    paused
        1 while new orders are held back on request.
    quotes, fills
        Since the start of the process.
    last_quote, last_fill
        When the last one came, whole seconds of UNIX time; 0 if there was none yet. Quotes count from RUNNING on.
    orders, positions_open
        In the cache now.
    pid
        Of the node's process.

    """

    time: int = 0
    state: NodeState = NodeState.WAITING
    since: int = 0
    paper: int = 0
    expect_fills: int = 0
    fills_since: int = 0
    paused: int = 0
    quotes: int = 0
    fills: int = 0
    last_quote: int = 0
    last_fill: int = 0
    orders: int = 0
    positions_open: int = 0
    pid: int = 0

    def enter(self, state: NodeState) -> None:
        """Note a change of state."""
        self.state = state
        self.since = int(time.time())

    def write(self, path: Path) -> None:
        """Stamp and write the file in one step: a reader sees the old one or the new one.

        Raises
        ------
        OSError
            If the directory cannot be written.

        """
        self.time = int(time.time())
        self.pid = os.getpid()
        temporary = path.with_suffix(".new")
        temporary.write_text("".join(f"{f.name}={getattr(self, f.name)}\n" for f in fields(self)))
        temporary.replace(path)


def read_heartbeat(path: Path) -> Heartbeat | None:
    """Return the heartbeat in the file, or None if there is none that can be read."""
    try:
        lines = dict(line.split("=", 1) for line in path.read_text().splitlines())
        state = NodeState(lines.pop("state"))
        return Heartbeat(state=state, **{name: int(value) for name, value in lines.items()})
    except (OSError, ValueError, KeyError, TypeError):
        return None
