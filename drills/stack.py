"""The Compose stack under test: what its parts say, and what can be done to them.

Talks to Docker by its command line and to Redis by the published ports, so it needs nothing of the stack's own code.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from .waiting import wait_until

MASTER_NAME = "mymaster"
NODES = ("redis-1", "redis-2", "redis-3")
SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
SERVICES = (*NODES, *SENTINELS, "trader")
_DEFAULT_PORTS = dict(zip((*NODES, *SENTINELS), (16381, 16382, 16383, 26381, 26382, 26383), strict=True))
_DEFAULT_SUBNET = "172.28.77"
_LAST_BYTES = dict(zip(SERVICES, (11, 12, 13, 21, 22, 23, 31), strict=True))
_HOST = "127.0.0.1"


class DockerError(RuntimeError):
    """A docker command failed; the message holds the command and what it said."""


def docker(*arguments: str, timeout: float = 120.0, environment: Mapping[str, str] | None = None) -> str:
    """Run a docker command and return its output. Raises ``DockerError`` if it fails."""
    done = subprocess.run(
        ["docker", *arguments],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise DockerError(f"docker {' '.join(arguments[:6])}: {done.stderr.strip()[-2000:]}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Promotion:
    """A failover as seen from outside; times in seconds after the fault."""

    master: str
    #: The new master holds a write of the link that the old one never had.
    first_write: float


class Stack:
    """One running stack, named by the environment as the Compose files read it."""

    def __init__(
        self, root: Path, files: tuple[str, ...] = ("compose/base.yaml",), environment: Mapping[str, str] | None = None
    ) -> None:
        self.root = root
        self.environment = {**os.environ, **(environment or {})}
        self.project = self.environment.get("COMPOSE_PROJECT_NAME", "nautilus-redis-ha")
        self.trader_id = self.environment.get("TRADER_ID", "TRADER-001")
        self._subnet = self.environment.get("SUBNET_PREFIX", _DEFAULT_SUBNET)
        self._files = [part for name in files for part in ("-f", str(root / name))]

    # --- Docker --------------------------------------------------------------------------------------------------

    def compose(self, *arguments: str, timeout: float = 240.0) -> str:
        """Run docker compose on this stack."""
        return docker(
            "compose",
            "--project-directory",
            str(self.root),
            *self._files,
            *arguments,
            timeout=timeout,
            environment=self.environment,
        )

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.project}-{service}-1"

    def inspect_container(self, service: str) -> dict[str, Any]:
        """Return what Docker knows of a service's container."""
        state: dict[str, Any] = json.loads(docker("inspect", self.container(service)))[0]
        return state

    def running(self, service: str) -> bool:
        """Whether a service's container runs and is not paused."""
        state = self.inspect_container(service)["State"]
        return bool(state["Running"] and not state["Paused"])

    def healthy(self, service: str) -> bool:
        """Whether a service's healthcheck succeeds."""
        return bool(self.inspect_container(service)["State"]["Health"]["Status"] == "healthy")

    def kill(self, *services: str) -> None:
        """SIGKILL containers; Docker does not start them again by itself."""
        docker("kill", "--signal", "KILL", *(self.container(service) for service in services))

    def start(self, *services: str) -> None:
        """Start stopped containers."""
        docker("start", *(self.container(service) for service in services))

    def stop(self, service: str, seconds: int = 20) -> None:
        """SIGTERM a container, and SIGKILL after the grace period."""
        docker("stop", "--time", str(seconds), self.container(service))

    def pause(self, service: str) -> None:
        """Freeze all processes of a container; its connections stay open and silent."""
        docker("pause", self.container(service))

    def unpause(self, service: str) -> None:
        """Let a frozen container go on."""
        docker("unpause", self.container(service))

    def disconnect(self, service: str) -> None:
        """Take a container off the network."""
        docker("network", "disconnect", f"{self.project}_stack", self.container(service))

    def connect(self, service: str) -> None:
        """Put a container back on the network with its fixed address."""
        docker("network", "connect", "--ip", self.ip(service), f"{self.project}_stack", self.container(service))

    def connected(self, service: str) -> bool:
        """Whether a container is on the network."""
        return f"{self.project}_stack" in self.inspect_container(service)["NetworkSettings"]["Networks"]

    def execute(self, service: str, *command: str, timeout: float = 60.0) -> str:
        """Run a command in a service's container and return its output."""
        return docker("exec", self.container(service), *command, timeout=timeout)

    def logs(self, service: str, lines: int = 40) -> str:
        """Return the last lines that a service logged."""
        done = subprocess.run(
            ["docker", "logs", "--tail", str(lines), self.container(service)],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    # --- Redis and Sentinel --------------------------------------------------------------------------------------

    def ip(self, service: str) -> str:
        """Return the fixed address of a service inside the stack."""
        return f"{self._subnet}.{_LAST_BYTES[service]}"

    def client(self, service: str, timeout: float = 1.0, *, decode: bool = True) -> Redis:
        """Return a client of a node or a Sentinel, by its published port; ``decode``: replies are text."""
        variable = service.upper().replace("-", "_") + "_PORT"
        return Redis(
            host=_HOST,
            port=int(self.environment.get(variable, _DEFAULT_PORTS[service])),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            decode_responses=decode,
        )

    def master(self) -> str:
        """Return the master that most of the answering Sentinels name. Raises ``RuntimeError`` if none answers."""
        answers: list[str] = []
        for sentinel in SENTINELS:
            try:
                ip, _ = self.client(sentinel).execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
            except (RedisError, OSError):
                continue
            answers.append(next(node for node in NODES if self.ip(node) == ip))
        if not answers:
            raise RuntimeError("no Sentinel answers")
        return max(set(answers), key=answers.count)

    def role(self, node: str) -> str:
        """Return what a node says of itself: master or slave."""
        return str(self.client(node).role()[0])

    def marker(self, node: str) -> tuple[str, int]:
        """Return owner and last entry of the link's marker on a node."""
        owner, seq = self.client(node).hmget(f"trader-{self.trader_id}.link", ["o", "s"])
        return str(owner), int(seq or 0)

    def whole(self) -> bool:
        """Whether there is one master with two replicas in sync, and every Sentinel could fail over."""
        master = self.master()
        info = self.client(master).info("replication")
        online = sum(info.get(f"slave{index}", {}).get("state") == "online" for index in range(3))
        return (
            info["role"] == "master"
            and online == 2
            and all(self.role(node) == "slave" for node in NODES if node != master)
            and all(
                str(self.client(sentinel).execute_command("SENTINEL", "CKQUORUM", MASTER_NAME)).startswith("OK")
                for sentinel in SENTINELS
            )
        )

    def heal(self, seconds: float = 90.0) -> None:
        """Undo whatever was done to the containers and wait until the stack is whole and trades."""
        for service in SERVICES:
            state = self.inspect_container(service)["State"]
            if state["Paused"]:
                self.unpause(service)
            if not self.connected(service):
                self.connect(service)
            if not state["Running"]:
                self.start(service)
        wait_until(self.whole, seconds, "one master with two replicas in sync")
        wait_until(lambda: self.link()["state"] == "ready", seconds, "the link applies writes")
        wait_until(lambda: self.healthy("trader"), seconds, "the trader is healthy")

    # --- the trader ----------------------------------------------------------------------------------------------

    def link(self) -> dict[str, Any]:
        """Return the link's state."""
        script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9125/status').read().decode())"
        state: dict[str, Any] = json.loads(self.execute("trader", "python", "-c", script))
        return state

    def report(self, *options: str) -> dict[str, Any]:
        """Return the node's own record of its positions, orders and accounts."""
        record: dict[str, Any] = json.loads(self.execute("trader", "python", "-m", "trader_node.report", *options))
        return record

    def in_redis(self, node: str) -> dict[str, Any]:
        """Return the same record, rebuilt from what a node of Redis holds."""
        address = f"{self.ip(node)}:6379"
        record: dict[str, Any] = json.loads(
            self.execute("trader", "python", "-m", "trader_node.inspect", "--json", "--address", address)
        )
        return record

    def wait_for_writes(self, entries: int = 10, seconds: float = 30.0) -> None:
        """Wait until the link has applied more entries: proof that the node trades and Redis takes it."""
        self.wait_for_writes_on(self.master(), entries, seconds)

    def wait_for_writes_on(self, node: str, entries: int = 10, seconds: float = 30.0) -> None:
        """The same for a node that is the master, whatever the Sentinels say by now."""
        goal = self.marker(node)[1] + entries
        wait_until(lambda: self.marker(node)[1] >= goal, seconds, f"{entries} more entries on {node}")

    def wait_for_promotion(self, old: str, fault_at: float, seconds: float = 60.0) -> Promotion:
        """Wait until another node than ``old`` holds a write that the link made after the fault.

        ``fault_at`` is the monotonic time of the fault. The marker's owner changes with each connection of the link, so
        a write under a new owner is one that the new master took itself.
        """
        others = [node for node in NODES if node != old]
        clients = {node: self.client(node, 0.3) for node in others}
        key = f"trader-{self.trader_id}.link"
        before = {node: clients[node].hmget(key, ["o", "s"]) for node in others}
        promoted: list[Promotion] = []

        def written() -> bool:
            for node in others:
                owner, seq = clients[node].hmget(key, ["o", "s"])
                if owner != before[node][0] and int(seq) > int(before[node][1]) and clients[node].role()[0] == "master":
                    promoted.append(Promotion(node, time.monotonic() - fault_at))
                    return True
            return False

        wait_until(written, seconds, f"a write on another master than {old}", 0.005)
        return promoted[0]
