"""Hosts and cuts: packets vanish while a cut lasts, in the direction asked for, and nothing of it stays."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from drills.network import Host, Network, allowed
from drills.waiting import wait_until


@pytest.fixture
def network() -> Iterator[Network]:
    if not allowed():
        pytest.fail("hosts of their own need the capabilities NET_ADMIN and SYS_ADMIN: run ./scripts/test")
    network = Network("10.78.0")
    try:
        for name in ("a", "b", "c"):
            network.add(name)
        yield network
    finally:
        network.remove()


def _connects(source: Host, to: Host) -> bool:
    probe = f"import socket; socket.create_connection(({to.address!r}, 6379), 0.3)"
    return subprocess.run([*source.inside, "python", "-c", probe], capture_output=True, check=False).returncode == 0


def _silent(source: Host, to: Host) -> bool:
    """Whether packets vanish: a refusal would be an answer."""
    probe = f"import socket; socket.create_connection(({to.address!r}, 6379), 0.3)"
    done = subprocess.run([*source.inside, "python", "-c", probe], capture_output=True, text=True, check=False)
    return "TimeoutError" in done.stderr


def test_cuts(network: Network) -> None:
    a, b, c = network.hosts.values()
    servers = [
        subprocess.Popen([*host.inside, "redis-server", "--bind", host.address, "--protected-mode", "no"])
        for host in (a, b, c)
    ]
    try:
        wait_until(lambda: _connects(a, b) and _connects(b, c) and _connects(c, a), 20, "all reach each other")
        network.separate(["a"])
        assert _silent(a, b)
        assert _silent(b, a)
        assert _connects(b, c)
        network.heal()
        assert _connects(a, b)
        assert _connects(b, a)
        # One direction: the request arrives, the answer does not, so neither side can connect.
        network.cut({("b", "a")})
        assert _silent(a, b)
        assert _silent(b, a)
        assert _connects(a, c)
        network.heal()
        assert _connects(a, b)
        assert all(host.run("nft", "list", "ruleset") == "" for host in (a, b, c))
    finally:
        for server in servers:
            server.kill()
            server.wait()
