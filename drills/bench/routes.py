"""The three routes from a client to the master: direct, through HAProxy, through the link."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis import Redis

from ..processes import Process, free_ports
from ..waiting import wait_until

_HOST = "127.0.0.1"

#: The usual recipe: a TCP check that asks for the role, sessions closed when a server is marked down. Checked twice as
#: often as most write it and believed sooner (HAProxy's defaults are fall 3 and rise 2), so that it finds out about
#: as fast as Sentinel does with down-after-milliseconds 1000.
_HAPROXY = r"""
global
    maxconn 2000
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
frontend redis
    bind {host}:{port}
    default_backend master
backend master
    option tcp-check
    tcp-check connect
    tcp-check send PING\r\n
    tcp-check expect string +PONG
    tcp-check send info\ replication\r\n
    tcp-check expect string role:master
    tcp-check send QUIT\r\n
    tcp-check expect string +OK
    default-server check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


class HAProxy(Process):
    """HAProxy in front of all nodes, sending clients to the one that says that it is master."""

    def __init__(self, nodes: Sequence[tuple[str, int]], folder: Path, *, host: str = _HOST) -> None:
        self.host = host
        (self.port,) = free_ports(1)
        folder.mkdir(parents=True, exist_ok=True)
        servers = "\n".join(f"    server redis-{port} {node}:{port}" for node, port in nodes)
        config = folder / "haproxy.cfg"
        config.write_text(_HAPROXY.format(host=host, port=self.port, servers=servers))
        super().__init__(["haproxy", "-db", "-f", str(config)], folder / "haproxy.log")

    def wait_until_ready(self) -> None:
        """Wait until every new connection ends at a master: HAProxy takes all servers for good until it has checked."""

        def ready() -> bool:
            return all(_role(self.host, self.port) == b"master" for _ in range(6))

        wait_until(ready, 20, "HAProxy sends every connection to the master")


def _role(host: str, port: int) -> bytes:
    role: list[bytes] = Redis(host, port, socket_timeout=1).role()  # type: ignore[assignment]
    return role[0]


class Link(Process):
    """A link with its journal on disk, set as in the stack. Each has an id of its own, for a journal that is empty."""

    def __init__(self, url: str, folder: Path, *, link_id: str, fsync: str = "everysec", host: str = _HOST) -> None:
        self.host = host
        self.port, self._http_port = free_ports(2)
        self.fsync = fsync
        folder.mkdir(parents=True)
        environment = {
            "REDIS_URL": url,
            "LINK_ID": link_id,
            "LINK_LISTEN": f"{host}:{self.port}",
            "LINK_HTTP": f"{host}:{self._http_port}",
            "LINK_JOURNAL_DIR": str(folder / "journal"),
            "LINK_FSYNC": fsync,
            # What the trader's link is told: half a second into an outage the journal answers.
            "LINK_ACKNOWLEDGE_HELD_AFTER": "0.5",
        }
        super().__init__([sys.executable, "-m", "trader_node.link"], folder / "link.log", environment)

    def status(self) -> dict[str, Any]:
        """Return the link's state."""
        with urllib.request.urlopen(f"http://{self.host}:{self._http_port}/status", timeout=5) as reply:
            state: dict[str, Any] = json.load(reply)
        return state

    def wait_until_ready(self) -> None:
        """Wait until it applies writes."""
        wait_until(lambda: self.status()["state"] == "ready", 20, "the link applies writes", 0.02)

    def wait_until_drained(self, seconds: float = 60.0) -> None:
        """Wait until every accepted write is applied."""
        wait_until(
            lambda: (state := self.status())["state"] == "ready" and state["unfinished"] == 0,
            seconds,
            "the link has applied what it accepted",
            0.02,
        )
