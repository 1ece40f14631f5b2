"""The three routes from a client to the master: direct, through HAProxy, through the link."""

from __future__ import annotations

from pathlib import Path

from redis import Redis

from ..processes import Cluster, LinkProcess, Process, free_ports
from ..waiting import wait_until

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
    bind {address}:{port}
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
    """HAProxy in front of all nodes of a cluster; on a network it runs on the host ``link``, beside the link."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        inside: list[str] = []
        if cluster.network is None:
            self.address = "127.0.0.1"
            (self.port,) = free_ports(1)
        else:
            host = cluster.network.hosts["link"]
            self.address, self.port, inside = host.address, 6379, host.inside
        servers = "\n".join(f"    server redis-{port} {cluster.address(port)}:{port}" for port in cluster.node_ports)
        config = folder / "haproxy.cfg"
        config.write_text(_HAPROXY.format(address=self.address, port=self.port, servers=servers))
        super().__init__([*inside, "haproxy", "-db", "-f", str(config)], folder / "haproxy.log")

    def wait_until_ready(self) -> None:
        """Wait until every new connection ends at a master: HAProxy takes all servers for good until it has checked."""

        def role() -> bytes:
            answer: list[bytes] = Redis(self.address, self.port, socket_timeout=1).role()  # type: ignore[assignment]
            return answer[0]

        wait_until(lambda: all(role() == b"master" for _ in range(6)), 20, "HAProxy finds the master")


class Link(LinkProcess):
    """A link with its journal on disk. Each has an id of its own, for a journal that is empty.

    On a network it is the trader's: half a second into an outage the journal answers, and it listens on its host's own
    loopback, so that it needs no password. Elsewhere every answer tells of an applied write, or it would be the journal
    that is measured when a reply takes long.
    """

    def __init__(self, cluster: Cluster, folder: Path, *, link_id: str, fsync: str = "everysec") -> None:
        # Room for all that a run writes: what is measured is the link, not how it waits at the bound of its journal.
        options = {"LINK_ID": link_id, "LINK_FSYNC": fsync, "LINK_JOURNAL_MAX_BYTES": str(4 << 30)}
        if cluster.network is not None:
            options |= {"LINK_ACKNOWLEDGE_HELD_AFTER": "0.5"}
            options |= {"LINK_LISTEN": "127.0.0.1:7379", "LINK_CLIENT_PASSWORD": ""}
        super().__init__(cluster.url, folder, options=options, network=cluster.network)

    def wait_until_drained(self) -> None:
        """Wait until every accepted write is applied."""

        def drained() -> bool:
            state = self.status()
            return bool(state["state"] == "ready" and state["unfinished"] == 0)

        wait_until(drained, 60, "the link has applied what it accepted", 0.02)
