"""Whose fault an error of Redis is: the node's role, the moment, or the command itself."""

from __future__ import annotations

import enum


class Blame(enum.Enum):
    """What an error says about going on."""

    #: Not the master any more: look for the master again. Never shown to a client.
    ROLE = "role"
    #: Passes by itself: wait and try again. Never shown to a client.
    MOMENT = "moment"
    #: Will be the same however often it is tried: belongs to the client.
    COMMAND = "command"


_ROLE = frozenset({"READONLY", "MASTERDOWN", "MOVED"})
_MOMENT = frozenset({"LOADING", "BUSY", "NOREPLICAS", "MISCONF", "CLUSTERDOWN", "TRYAGAIN"})


def for_an_operator(text: str) -> bool:
    """Tell whether a refusal that lasts has to be mended on the server: rights, memory, a disk that takes no writes."""
    return text.startswith("MISCONF") or blame(text) is Blame.COMMAND


def without_payload(text: str) -> str:
    """Return an error as it may be logged and shown: an unknown command's is followed by what the client sent."""
    return text.partition(", with args beginning")[0]


def blame(text: str) -> Blame:
    """Classify an error by its code, or, for EXECABORT, by the code named in its text (Redis 7.0 ``multi.c``)."""
    code, _, rest = text.partition(" ")
    if code in _ROLE:
        return Blame.ROLE
    if code in _MOMENT:
        return Blame.MOMENT
    if code == "EXECABORT":
        words = {word.strip(".,:") for word in rest.split()}
        if words & _ROLE:
            return Blame.ROLE
        return Blame.MOMENT
    return Blame.COMMAND
