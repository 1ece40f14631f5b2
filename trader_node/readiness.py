"""Asks whether Redis answers at an address, with nothing but the standard library."""

from __future__ import annotations

import socket

_QUESTION = b"*2\r\n$6\r\nEXISTS\r\n$27\r\ntrader-node:readiness-check\r\n"


def answers(host: str, port: int, timeout: float = 1.0) -> bool:
    """Return whether a read is answered within ``timeout`` seconds.

    A read, not a PING: the link answers a PING itself, while a read waits until there is a master. An error that a
    starting Redis gives (LOADING, MASTERDOWN) counts as no answer.
    """
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(_QUESTION)
            return connection.recv(64).startswith(b":")
    except OSError:
        return False
