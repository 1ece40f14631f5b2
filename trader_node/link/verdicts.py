"""The link's decision on one command."""

from __future__ import annotations

import enum
from dataclasses import dataclass

Arguments = tuple[bytes, ...]


class Kind(enum.Enum):
    """How the link treats a command."""

    #: Journalled, sent in order, replayed: exactly once.
    WRITE = "write"
    #: Forwarded to the current master after the client's own earlier writes.
    READ = "read"
    #: Sent once, after the client's own earlier writes, and never again: at most once, because the user asked for it.
    ONCE = "once"
    #: SPOP: which members it removes is decided first, and that is then a write.
    RANDOM_POP = "random pop"
    #: Waits for data and is then a write; inside MULTI it does not wait.
    BLOCKING_WRITE = "blocking write"
    #: XREAD BLOCK: waits on a connection of the client's own; inside MULTI it does not wait.
    BLOCKING_READ = "blocking read"
    #: Answered by the link, because it concerns the client's connection to the link.
    LOCAL = "local"
    #: Not carried out; the answer says why.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The link's decision on one command."""

    kind: Kind
    #: The command as it is journalled and sent; differs from the client's only where it had to be pinned.
    arguments: Arguments = ()
    #: Why a command was refused: the text of the error reply.
    reason: str = ""


def refused(name: bytes, reason: str) -> Verdict:
    """Return the verdict on a command that the link does not carry out."""
    shown = name[:32].decode(errors="replace")
    return Verdict(Kind.REFUSED, reason=f"ERR link: {shown} is not available through the link: {reason}")
