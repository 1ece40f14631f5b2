"""A master, two replicas and three Sentinels as plain processes on loopback: the smallest real stack to break."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from .security import ADMIN, REPLICA, SENTINEL_AT_NODES, Account, Certificate, Security
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

    def start(self) -> None:
        """Start the process; its output is appended to the log."""
        with self.log.open("ab") as log:
            environment = {**os.environ, **(self._environment or {})}
            self._popen = subprocess.Popen(self._arguments, stdout=log, stderr=log, env=environment)

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
    """Three Redis nodes and three Sentinels; nodes are named by their port."""

    def __init__(
        self, folder: Path, *, down_after_ms: int = 500, min_replicas: int = 0, security: Security | None = None
    ) -> None:
        self.folder = folder
        self._security = security or Security()
        ports = free_ports(6)
        self.node_ports, self.sentinel_ports = ports[:3], ports[3:]
        self._down_after_ms = down_after_ms
        self._min_replicas = min_replicas
        self.nodes = {port: self._node(port) for port in self.node_ports}
        self.sentinels = {port: self._sentinel(port) for port in self.sentinel_ports}

    @property
    def url(self) -> str:
        """The connection string of the cluster."""
        hosts = ",".join(f"{_HOST}:{port}" for port in self.sentinel_ports)
        return f"{'sentinels' if self._security.servers else 'sentinel'}://{hosts}/{MASTER_NAME}"

    def start(self) -> None:
        """Start everything and wait until the replicas are in sync and every Sentinel knows all the others."""
        for process in self.nodes.values():
            process.start()
        for port in self.node_ports[1:]:
            wait_until(lambda port=port: self.client(port).replicaof(_HOST, self.node_ports[0]), 20, "REPLICAOF taken")
        for process in self.sentinels.values():
            process.start()
        wait_until(lambda: all(self._sentinel_ready(port) for port in self.sentinel_ports), 30, "Sentinels ready")

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
            _HOST,
            port,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            decode_responses=True,
            protocol=2,
            **options,
        )

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

    def _node(self, port: int) -> Process:
        folder = self.folder / f"node-{port}"
        folder.mkdir(parents=True)
        options: dict[str, Any] = {
            "bind": _HOST,
            "dir": folder,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "repl-diskless-sync-delay": 0,
            "repl-ping-replica-period": 1,
            "min-replicas-to-write": self._min_replicas,
            "min-replicas-max-lag": 2,
            "protected-mode": "no",
            **_ports(port, self._security.servers),
        }
        if self._security.node_users is not None:
            users = [ADMIN, SENTINEL_AT_NODES, REPLICA, *self._security.node_users]
            options |= {"masteruser": REPLICA.name, "masterauth": REPLICA.password}
            options["aclfile"] = _acl_file(folder, users)
        arguments = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        return Process(arguments, folder / "log")

    def _sentinel(self, port: int) -> Process:
        folder = self.folder / f"sentinel-{port}"
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        lines = [f"{name} {value}" for name, value in _ports(port, self._security.servers).items()]
        if self._security.node_users is not None:
            lines.append(f"sentinel auth-user {MASTER_NAME} {SENTINEL_AT_NODES.name}")
            lines.append(f"sentinel auth-pass {MASTER_NAME} {SENTINEL_AT_NODES.password}")
        if self._security.sentinel_users is not None:
            lines.append(f"aclfile {_acl_file(folder, [ADMIN, *self._security.sentinel_users])}")
            # With which Sentinels ask one another.
            lines += [f"sentinel sentinel-user {ADMIN.name}", f"sentinel sentinel-pass {ADMIN.password}"]
        config.write_text(
            f"bind {_HOST}\ndir {folder}\nprotected-mode no\n"
            f"sentinel monitor {MASTER_NAME} {_HOST} {self.node_ports[0]} 2\n"
            f"sentinel down-after-milliseconds {MASTER_NAME} {self._down_after_ms}\n"
            f"sentinel failover-timeout {MASTER_NAME} 3000\n" + "\n".join(lines) + "\n"
        )
        return Process(["redis-server", str(config), "--sentinel"], folder / "log")

    def _sentinel_ready(self, port: int) -> bool:
        client = self.client(port)
        master = sentinel_master(client)
        client.execute_command("SENTINEL", "DEBUG", "info-period", "1000")
        replicas = sentinel_replicas(client)
        return (
            int(master["num-other-sentinels"]) == 2
            and len(replicas) == 2
            and all(replica["master-link-status"] == "ok" for replica in replicas)
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
    path.write_text("\n".join(["user default off", *(user.acl for user in users)]) + "\n")
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
