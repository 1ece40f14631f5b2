"""Asks whether Redis answers at an address, with nothing but the standard library."""

from __future__ import annotations

import socket

# What a server answers that is starting, or that has no data to give yet. Any other error is an answer: waiting would
# not change it, and Nautilus will say what it is.
_NOT_YET = (b"-LOADING", b"-MASTERDOWN", b"-BUSY", b"-TRYAGAIN", b"-CLUSTERDOWN")


def answers(host: str, port: int, trader_id: str, timeout: float = 1.0) -> bool:
    """Return whether a read is answered within ``timeout`` seconds.

    A read, not a PING: the link answers a PING itself, while a read waits until there is a master. Its key is one of
    the trader's own, which an ACL lets pass.
    """
    key = f"trader-{trader_id}:health:readiness".encode()
    question = b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key)
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(question)
            answer = connection.recv(64)
    except OSError:
        return False
    return bool(answer) and not answer.startswith(_NOT_YET)
