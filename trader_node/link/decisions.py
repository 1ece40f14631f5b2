"""What the core tells the shell to do with a connection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Close the connection and make a new one; ``rediscover``: it may be to another node."""

    reason: str
    rediscover: bool = False
    #: Seconds to wait first.
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop for good; ``reason`` tells an operator what happened and what to do."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The handshake is done: the data set holds the entries up to ``marker``; ``replay`` more follow."""

    marker: int
    replay: int
    #: What an operator should know, or empty.
    warning: str = ""


Decision = Reconnect | Halt | Ready
