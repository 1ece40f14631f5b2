"""A master, two replicas and three Sentinels as plain processes: the smallest real stack to break.

On loopback, or with a :class:`~drills.network.Network` on three hosts of their own, one node and one Sentinel on each.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from .network import Network
from .security import ADMIN, DEFAULT, REPLICA, SENTINEL_AT_NODES, SENTINEL_AT_SENTINELS, Account, Certificate, Security
from .waiting import wait_until

MASTER_NAME = "mymaster"
_HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((_HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Process:
    """A server process that can be killed, frozen, thawed and started again on its data."""

    def __init__(self, arguments: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self._arguments = arguments
        self.log = log
        self._environment = environment
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running process."""
        assert self._popen is not None
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def start(self, *more: str) -> None:
        """Start the process, with ``more`` arguments; its output is appended to the log."""
        with self.log.open("ab") as log:
            environment = {**os.environ, **(self._environment or {})}
            # A process group of its own: Ctrl-C is for whoever started it.
            self._popen = subprocess.Popen(
                [*self._arguments, *more], stdout=log, stderr=log, env=environment, process_group=0
            )

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill at once, frozen or not, and wait until it is gone."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()

    def terminate(self, seconds: float = 15.0) -> int:
        """Ask to end and return the exit status."""
        assert self._popen is not None
        self._popen.terminate()
        return self._popen.wait(seconds)


class Cluster:
    """Three Redis nodes and three Sentinels; each is named by its port, which no other has.

    With a ``network`` node and Sentinel number n run on its host ``node-<n>``, which is added to it. ``quick``: the
    Sentinels tell each other twice as often and forgive a jump of the clock sooner, so that faults may follow closely.
    """

    def __init__(
        self,
        folder: Path,
        *,
        down_after_ms: int = 500,
        min_replicas: int = 0,
        network: Network | None = None,
        quick: bool = False,
        security: Security | None = None,
    ) -> None:
        self.folder = folder
        self._security = security or Security()
        self.network = network
        ports = free_ports(6) if network is None else [6381, 6382, 6383, 26381, 26382, 26383]
        self.node_ports, self.sentinel_ports = ports[:3], ports[3:]
        hosts = [network.add(f"node-{number}") for number in (1, 2, 3)] if network else []
        #: The name of the host of each node and Sentinel; empty on loopback.
        self.hosts = dict(zip(ports, itertools.cycle(host.name for host in hosts), strict=False))
        self.down_after_ms = down_after_ms
        self.min_replicas = min_replicas
        self._quick = quick
        self.nodes = {port: self._node(port) for port in self.node_ports}
        self.sentinels = {port: self._sentinel(port) for port in self.sentinel_ports}

    @property
    def url(self) -> str:
        """The connection string of the cluster."""
        hosts = ",".join(f"{self.address(port)}:{port}" for port in self.sentinel_ports)
        return f"{'sentinels' if self._security.servers else 'sentinel'}://{hosts}/{MASTER_NAME}"

    def address(self, port: int) -> str:
        """Return the IP address of a node or Sentinel."""
        return self.network.hosts[self.hosts[port]].address if self.network is not None else _HOST

    def start(self) -> None:
        """Start everything and wait until the replicas are in sync and every Sentinel knows all the others."""
        for process in self.nodes.values():
            process.start()
        first = self.node_ports[0]
        for port in self.node_ports[1:]:
            wait_until(lambda port=port: self.client(port).replicaof(self.address(first), first), 20, "REPLICAOF taken")
        self.start_sentinels()
        wait_until(lambda: all(self._sentinel_ready(port) for port in self.sentinel_ports), 30, "Sentinels ready")

    def start_sentinels(self) -> None:
        """Start all Sentinels, with what they have remembered."""
        for process in self.sentinels.values():
            process.start()
        for port in self.sentinel_ports:
            wait_until(lambda port=port: self._set_periods(port), 20, "Sentinel takes its periods", 0.02)

    def _staggered(self, port: int, down_after_ms: int) -> int:
        """Return the down-after of one Sentinel in ms: 15 % apart, like the stack's, so that votes are not split."""
        return down_after_ms * (70 + 15 * self.sentinel_ports.index(port)) // 100

    def _set_periods(self, port: int) -> bool:
        # The pace of the stack's Sentinels (sentinel-conf/settle.sh): nothing of it persists, and none has an option.
        periods = ["INFO-PERIOD", "1000", "PING-PERIOD", str(min(max(self.down_after_ms // 4, 400), 1000))]
        if self._quick:
            # A Sentinel that thaws is in TILT, by default for 30 s in which nothing can be drilled.
            periods += ["PUBLISH-PERIOD", "1000", "TILT-PERIOD", "1000"]
        return bool(self.client(port, 0.5).execute_command("SENTINEL", "DEBUG", *periods))

    def stop(self) -> None:
        """Kill everything."""
        for process in [*self.nodes.values(), *self.sentinels.values()]:
            process.kill()

    def client(self, port: int, timeout: float = 2.0) -> Redis:
        """Return a client of one node."""
        users = self._security.sentinel_users if port in self.sentinel_ports else self._security.node_users
        options: dict[str, Any] = {}
        if users is not None:
            options |= {"username": ADMIN.name, "password": ADMIN.password}
        shown = self._security.clients
        if shown is not None:
            options |= {"ssl": True, "ssl_ca_certs": str(shown.authority)}
            options |= {"ssl_certfile": str(shown.certificate), "ssl_keyfile": str(shown.key)}
        return Redis(
            self.address(port),
            port,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            decode_responses=True,
            protocol=2,
            **options,
        )

    def restart(self, port: int, *, ask: bool = True) -> None:
        """Start a node that is down on the data it has.

        With ``ask`` it begins as a replica of the master that the Sentinels name, as the stack's entrypoint has it;
        without, as the master that a Redis node is when nobody tells it otherwise.
        """
        master = self.master() if ask else port
        node = self.nodes[port]
        # min-replicas may have been changed since; Redis takes the last of two settings.
        settings = ["--min-replicas-to-write", str(self.min_replicas)]
        if master != port:
            settings += ["--replicaof", f"{self.address(master)} {master}"]
        node.start(*settings)

    def set_min_replicas(self, count: int) -> None:
        """Change ``min-replicas-to-write`` of all nodes."""
        self.min_replicas = count
        for port in self.node_ports:
            self.client(port).config_set("min-replicas-to-write", count)

    def set_down_after(self, milliseconds: int) -> None:
        """Change how long the Sentinels wait before they call a node down."""
        for port in self.sentinel_ports:
            own = self._staggered(port, milliseconds)
            self.client(port).execute_command("SENTINEL", "SET", MASTER_NAME, "down-after-milliseconds", str(own))

    def master(self) -> int:
        """Return the port of the master that most Sentinels name."""
        answers: list[int] = []
        for port in self.sentinel_ports:
            try:
                answers.append(int(sentinel_master(self.client(port, 0.5))["port"]))
            except (RedisError, OSError):
                continue
        if not answers:
            raise RuntimeError("no Sentinel answers")
        return max(set(answers), key=answers.count)

    def master_by_role(self) -> int:
        """Return the port of the node that calls itself master, if it is the only one; the Sentinels are not asked."""
        masters = [port for port in self.node_ports if self.client(port, 0.5).role()[0] == "master"]
        if len(masters) != 1:
            raise RuntimeError(f"{len(masters)} nodes call themselves master")
        return masters[0]

    def wait_for_other_master(self, old: int, seconds: float = 30.0) -> int:
        """Wait until the Sentinels name another master than ``old`` and it takes writes; return its port."""

        def promoted() -> bool:
            port = self.master()
            return port != old and self.client(port, 0.5).role()[0] == "master"

        wait_until(promoted, seconds, "another master", 0.05)
        return self.master()

    def wait_until_whole(self, seconds: float = 40.0) -> None:
        """Wait until there is one master again and two replicas in sync with it."""

        def whole() -> bool:
            info = self.client(self.master(), 0.5).info("replication")
            return (
                info["role"] == "master"
                and sum(info.get(f"slave{index}", {}).get("state") == "online" for index in range(3)) == 2
            )

        wait_until(whole, seconds, "one master and two replicas in sync")

    def wait_until_settled(self, seconds: float = 60.0) -> None:
        """Wait until, besides, all Sentinels agree and see nothing down: ready for the next failover."""
        self.wait_until_whole(seconds)

        def settled() -> bool:
            masters = {int(sentinel_master(self.client(port, 0.5))["port"]) for port in self.sentinel_ports}
            return len(masters) == 1 and all(self._sentinel_ready(port) for port in self.sentinel_ports)

        wait_until(settled, seconds, "Sentinels agree and see nothing down")
        self.wait_until_whole(seconds)

    def copy_data(self, port: int, to: Path) -> None:
        """Copy the append-only files of a running node: what it would start from after a crash now."""
        source = self._folder(port) / "appendonlydir"
        manifest = source / "appendonly.aof.manifest"

        def copied() -> bool:
            shutil.rmtree(to, ignore_errors=True)
            before = manifest.read_bytes()
            shutil.copytree(source, to)
            # A rewrite in between has replaced files: once more.
            return manifest.read_bytes() == before

        wait_until(copied, 30, "a copy of the append-only files", 0.05)

    def replace_data(self, port: int, copy: Path) -> None:
        """Put a copy in the place of the data of a node that is down."""
        shutil.rmtree(self._folder(port) / "appendonlydir")
        shutil.copytree(copy, self._folder(port) / "appendonlydir")

    def _folder(self, port: int) -> Path:
        return self.folder / f"node-{port}"

    def _inside(self, port: int) -> Sequence[str]:
        return self.network.hosts[self.hosts[port]].inside if self.network is not None else ()

    def _node(self, port: int) -> Process:
        folder = self._folder(port)
        folder.mkdir(parents=True)
        options: dict[str, Any] = {
            "bind": self.address(port),
            "dir": folder,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "repl-diskless-sync-delay": 0,
            "repl-ping-replica-period": 1,
            "min-replicas-to-write": self.min_replicas,
            "min-replicas-max-lag": 2,
            "protected-mode": "no",
            **_ports(port, self._security.servers),
        }
        if self._security.node_users is not None:
            users = [ADMIN, SENTINEL_AT_NODES, REPLICA, *self._security.node_users]
            options |= {"masteruser": REPLICA.name, "masterauth": REPLICA.password}
            options["aclfile"] = _acl_file(folder, users)
        settings = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return Process([*self._inside(port), "redis-server", *settings], folder / "log")

    def _sentinel(self, port: int) -> Process:
        folder = self.folder / f"sentinel-{port}"
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        lines = [f"{name} {value}" for name, value in _ports(port, self._security.servers).items()]
        if self._security.node_users is not None:
            lines.append(f"sentinel auth-user {MASTER_NAME} {SENTINEL_AT_NODES.name}")
            lines.append(f"sentinel auth-pass {MASTER_NAME} {SENTINEL_AT_NODES.password}")
        if self._security.sentinel_users is not None:
            lines.append(f"aclfile {_acl_file(folder, [ADMIN, SENTINEL_AT_SENTINELS, *self._security.sentinel_users])}")
            # With which Sentinels ask one another.
            peer = SENTINEL_AT_SENTINELS
            lines += [f"sentinel sentinel-user {peer.name}", f"sentinel sentinel-pass {peer.password}"]
        first = self.node_ports[0]
        config.write_text(
            f"bind {self.address(port)}\ndir {folder}\nprotected-mode no\n"
            f"sentinel monitor {MASTER_NAME} {self.address(first)} {first} 2\n"
            f"sentinel down-after-milliseconds {MASTER_NAME} {self._staggered(port, self.down_after_ms)}\n"
            f"sentinel failover-timeout {MASTER_NAME} 3000\n" + "\n".join(lines) + "\n"
        )
        return Process([*self._inside(port), "redis-server", str(config), "--sentinel"], folder / "log")

    def _sentinel_ready(self, port: int) -> bool:
        client = self.client(port, 0.5)
        master = sentinel_master(client)
        replicas = sentinel_replicas(client)
        return (
            int(master["num-other-sentinels"]) == 2
            and master["flags"] == "master"
            and len(replicas) == 2
            and all(replica["master-link-status"] == "ok" and replica["flags"] == "slave" for replica in replicas)
        )


def _ports(port: int, servers: Certificate | None) -> dict[str, Any]:
    if servers is None:
        return {"port": port}
    return {
        "port": 0,
        "tls-port": port,
        "tls-replication": "yes",
        "tls-ca-cert-file": servers.authority,
        "tls-cert-file": servers.certificate,
        "tls-key-file": servers.key,
    }


def _acl_file(folder: Path, users: Sequence[Account]) -> Path:
    path = folder / "users.acl"
    path.write_text("\n".join([DEFAULT, *(user.acl for user in users)]) + "\n")
    return path


def sentinel_master(client: Redis) -> dict[str, str]:
    """Return a Sentinel's state of the master.

    Asked as two words: the method of redis-py 6.4 fails on its own arguments.
    """
    flat = client.execute_command("SENTINEL", "MASTER", MASTER_NAME)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def sentinel_replicas(client: Redis) -> list[dict[str, str]]:
    """Return a Sentinel's state of the replicas."""
    replicas = client.execute_command("SENTINEL", "REPLICAS", MASTER_NAME)
    return [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in replicas]


def freeze(process: Process) -> None:
    """Stop a process without ending it: it keeps its connections and answers nothing."""
    process.signal(signal.SIGSTOP)


def thaw(process: Process) -> None:
    """Let a frozen process go on."""
    process.signal(signal.SIGCONT)


class LinkProcess(Process):
    """A link in front of a cluster; on a network it has a host of its own, ``link``, which is added to it."""

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        journal: bool = True,
        options: dict[str, str] | None = None,
        network: Network | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        if network is None:
            self.address, self.password, inside = _HOST, "", []
            self.port, self.http_port = free_ports(2)
        else:
            host = network.hosts["link"] if "link" in network.hosts else network.add("link")
            # A link that listens beyond loopback insists on a password.
            self.address, self.password, inside = host.address, "drills", host.inside
            self.port, self.http_port = 7379, 9125
        environment = {
            "REDIS_URL": url,
            "LINK_LISTEN": f"{self.address}:{self.port}",
            "LINK_HTTP": f"{self.address}:{self.http_port}",
            "LINK_JOURNAL_DIR": str(folder / "journal") if journal else "",
            "LINK_CLIENT_PASSWORD": self.password,
            **(options or {}),
        }
        super().__init__([*inside, sys.executable, "-m", "trader_node.link"], folder / "link.log", environment)

    def client(self, timeout: float = 60.0) -> Redis:
        """Return a client of the link."""
        return Redis(self.address, self.port, password=self.password or None, socket_timeout=timeout, protocol=2)

    def status(self) -> dict[str, Any]:
        """Return what the link says of itself. Raises ``OSError`` while it does not answer."""
        with urllib.request.urlopen(f"http://{self.address}:{self.http_port}/status", timeout=2) as answer:
            state: dict[str, Any] = json.load(answer)
        return state

    def wait_until_ready(self, seconds: float = 30.0) -> None:
        """Wait until it applies writes."""
        wait_until(lambda: self.status()["state"] == "ready", seconds, "the link is ready", 0.02)
