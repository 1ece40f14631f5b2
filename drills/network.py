"""Hosts of their own for processes, and cuts between them: Linux network namespaces joined by a bridge.

Needs the capabilities NET_ADMIN and SYS_ADMIN, ``ip`` and ``nft``; best in a container that is thrown away afterwards.
The caller stays outside of all hosts, at the bridge itself: no cut between hosts keeps it from any of them, so it can
watch, and serve as the client of a link that is cut off from Redis.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from .waiting import wait_until

_BRIDGE = "drills0"
_INTERFACES = Path("/sys/class/net")


def allowed() -> bool:
    """Whether this process may make hosts: it holds CAP_NET_ADMIN and CAP_SYS_ADMIN."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    return bool(effective >> 12 & 1 and effective >> 21 & 1)


class Host:
    """A network namespace with an address of its own; it lives as long as the process that holds it."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        # Not ``ip netns``: that mounts, which AppArmor's profile for containers forbids whatever the capabilities.
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], process_group=0)  # noqa: S607
        own = Path("/proc/self/ns/net").readlink()
        wait_until(lambda: self._namespace.readlink() != own, 10, f"a network namespace for {name}", 0.005)

    @property
    def _namespace(self) -> Path:
        return Path(f"/proc/{self._holder.pid}/ns/net")

    @property
    def pid(self) -> int:
        """Process id of the process that holds the namespace."""
        return self._holder.pid

    @property
    def inside(self) -> list[str]:
        """What to put in front of a command so that it runs on this host, under the same process id."""
        return ["nsenter", f"--net={self._namespace}", "--"]

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a command on this host and return its output."""
        return _run(*self.inside, *command, text=text)

    def enter(self) -> None:
        """Move the calling thread to this host: sockets that it opens from now on are the host's."""
        with self._namespace.open() as namespace:
            os.setns(namespace.fileno(), os.CLONE_NEWNET)

    def remove(self) -> None:
        """End the process that holds the namespace."""
        self._holder.kill()
        self._holder.wait()


class Network:
    """Hosts that reach each other until they are cut off. Packets that a cut stops vanish: no RST, no ICMP.

    Addresses are ``<prefix>.1`` for the caller and ``<prefix>.11`` on for the hosts.
    """

    def __init__(self, prefix: str = "10.77.0") -> None:
        self._prefix = prefix
        self.hosts: dict[str, Host] = {}
        self._cuts: set[tuple[str, str]] = set()
        if (_INTERFACES / _BRIDGE).exists():
            _run("ip", "link", "delete", _BRIDGE)
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "address", "add", f"{prefix}.1/24", "dev", _BRIDGE)
        _run("ip", "link", "set", _BRIDGE, "up")

    def add(self, name: str) -> Host:
        """Make a host and connect it."""
        number = 11 + len(self.hosts)
        host = Host(name, f"{self._prefix}.{number}")
        outer = f"drills{number}"
        if (_INTERFACES / outer).exists():
            _run("ip", "link", "delete", outer)
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        _run("ip", "link", "set", outer, "master", _BRIDGE, "up")
        host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "lo", "up")
        host.run("ip", "link", "set", "eth0", "up")
        self.hosts[name] = host
        return host

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Drop what the first host of each pair sends to the second, at the second's door."""
        self._apply(self._cuts | set(pairs))

    def separate(self, group: Iterable[str]) -> None:
        """Cut the hosts of ``group`` off from all other hosts, both ways; inside the group they reach each other."""
        inside = set(group)
        outside = self.hosts.keys() - inside
        self.cut({(a, b) for a in inside for b in outside} | {(b, a) for a in inside for b in outside})

    def heal(self) -> None:
        """Take all cuts back."""
        self._apply(set())

    def _apply(self, cuts: set[tuple[str, str]]) -> None:
        changed = {receiver for _, receiver in cuts ^ self._cuts}
        # All at the same time: a partition that takes shape host by host is another fault than the one asked for.
        running = [self._nft(receiver, {sender for sender, to in cuts if to == receiver}) for receiver in changed]
        for process in running:
            if process.wait() != 0:
                raise RuntimeError("nft failed: see its message above")
        self._cuts = cuts

    def _nft(self, receiver: str, senders: set[str]) -> subprocess.Popen[bytes]:
        rules = "table inet cut\ndelete table inet cut\n"
        if senders:
            addresses = ", ".join(self.hosts[sender].address for sender in sorted(senders))
            rules += (
                "table inet cut {\n chain input {\n  type filter hook input priority 0; policy accept;\n"
                f"  ip saddr {{ {addresses} }} drop\n }}\n}}\n"
            )
        process = subprocess.Popen([*self.hosts[receiver].inside, "nft", "-f", "-"], stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(rules.encode())
        process.stdin.close()
        return process

    def remove(self) -> None:
        """Remove the hosts and the bridge."""
        for number, host in enumerate(self.hosts.values(), 11):
            # At once, not when the kernel comes round to it: the next network takes the same names.
            _run("ip", "link", "delete", f"drills{number}")
            host.remove()
        _run("ip", "link", "delete", _BRIDGE)


def _run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
