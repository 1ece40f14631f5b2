"""What a server can read: a longer argument or request makes it close the connection, however often it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: What the transaction around an entry and the server's own reads add to a request, at most.
_AROUND_BYTES = 64 << 10
#: Redis allows neither bound to be set below 1 MiB (``config.c``), so that every server can read this much.
SURE_BYTES = (1 << 20) - _AROUND_BYTES


@dataclass(frozen=True, slots=True)
class ServerBounds:
    """Settings of one server, in bytes; where it does not tell them, what Redis comes with.

    Redis 7 bounds the number of arguments by that of a C integer, which no request of these sizes reaches.
    """

    #: ``proto-max-bulk-len``: the longest argument.
    argument: int = 512 << 20
    #: ``client-query-buffer-limit``: the longest request; a transaction is one until EXEC comes.
    request: int = 1 << 30

    @property
    def transaction(self) -> int:
        """The most bytes of entries in one transaction."""
        return self.request - _AROUND_BYTES

    @property
    def least(self) -> int:
        """The smallest of what must not be exceeded: nothing shorter has to be looked at more closely."""
        return min(self.argument, self.transaction)

    def refusal(self, arguments: Sequence[bytes]) -> str:
        """Return the error for a command that the server cannot read, or nothing."""
        size = sum(map(len, arguments))
        if size <= SURE_BYTES:
            return ""
        longest = max(map(len, arguments))
        if longest > self.argument:
            return (
                f"ERR Protocol error: invalid bulk length: an argument has {longest} bytes, and the server's "
                f"proto-max-bulk-len is {self.argument}"
            )
        return self.refusal_of_size(size)

    def refusal_of_size(self, size: int) -> str:
        """Return the error for commands of so many bytes that are carried out together, or nothing."""
        if size <= self.transaction:
            return ""
        return f"ERR link: {size} bytes at once, and the server's client-query-buffer-limit is {self.request}"


DEFAULT_SERVER_BOUNDS = ServerBounds()
