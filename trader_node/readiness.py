"""Asks whether Redis answers at an address, in a fraction of a second."""

from __future__ import annotations

import socket

from trader_node.link.login import Login
from trader_node.link.wire import OK, encode_command

# What a server answers that is starting, or that has no data to give yet. Any other error is an answer: waiting would
# not change it, and Nautilus will say what it is.
_NOT_YET = (b"-LOADING", b"-MASTERDOWN", b"-BUSY", b"-TRYAGAIN", b"-CLUSTERDOWN")


def answers(host: str, port: int, trader_id: str, timeout: float = 1.0, *, login: Login | None = None) -> bool:
    """Return whether a read is answered within ``timeout`` seconds.

    A read, not a PING: the link answers a PING itself, while a read waits until there is a master. Its key is one of
    the trader's own, which an ACL lets pass.
    """
    key = f"trader-{trader_id}:health:readiness".encode()
    question = encode_command(b"GET", key)
    if login is not None:
        question = encode_command(b"AUTH", login.username, login.password) + question
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(question)
            answer = connection.recv(64)
            if login is not None:
                if not answer.startswith(OK):
                    return False
                answer = answer.removeprefix(OK) or connection.recv(64)
    except OSError:
        return False
    return bool(answer) and not answer.startswith(_NOT_YET)
