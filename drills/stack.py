"""The Compose stack under test: what its parts say, and what can be done to them.

Talks to Docker as containers.py does and to Redis as redis_access.py says, so it needs nothing of the stack's own code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from .containers import (
    HELPER_LABEL,
    Containers,
    DockerError,
    compose_files_of,
    containers_of,
    docker,
    docker_logs,
    environment_of,
)
from .redis_access import ADMIN, RedisAccess, Secrets
from .trader import DEFAULT_IDS, SECOND_TRADER, TRADER, Trader
from .waiting import wait_until

__all__ = [
    "HELPER_LABEL",
    "MASTER_NAME",
    "NODES",
    "SENTINELS",
    "SERVICES",
    "DockerError",
    "Promotion",
    "Stack",
    "containers_of",
    "docker",
    "docker_logs",
    "environment_of",
    "port_variable",
]

MASTER_NAME = "mymaster"
NODES = ("redis-1", "redis-2", "redis-3")
SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
#: What every stack with failover has; :attr:`Stack.services` may be more.
SERVICES = (*NODES, *SENTINELS, TRADER)
_DEFAULT_PORTS = dict(zip((*NODES, *SENTINELS), (16381, 16382, 16383, 26381, 26382, 26383), strict=True))
_DEFAULT_SUBNET = "172.28.77"
_LAST_BYTES = dict(zip((*SERVICES, SECOND_TRADER), (11, 12, 13, 21, 22, 23, 31, 32), strict=True))
_HOST = "127.0.0.1"
#: Inside the stack's network.
_INNER_PORTS = {**dict.fromkeys(NODES, 6379), **dict.fromkeys(SENTINELS, 26379)}
#: What else publishes a port, with compose/observability.yaml.
_PAGES = ("prometheus", "alertmanager")
_BASE, _STAGING, _SECOND = "compose/base.yaml", "compose/staging.yaml", "compose/second-trader.yaml"
#: Says in a container that runs Redis whether it speaks TLS.
_TLS = "REDIS_TLS"
#: Where a container has its certificate, of SECRETS_DIR/tls/<service>.
_TLS_MOUNT = "/run/tls"
#: Variables of the Compose files that containers show, by the beginning of their names.
_SHOWN_BY = {
    "trader": ("TRADER_", "CACHE_", "MESSAGE_BUS_", "LINK_", "LOG_LEVEL", "REDIS_URL"),
    **dict.fromkeys(NODES, ("REDIS_MAXMEMORY", "REDIS_MIN_REPLICAS")),
    **dict.fromkeys(SENTINELS, ("SENTINEL_DOWN_AFTER_MS", "SENTINEL_FAILOVER_TIMEOUT_MS")),
}
#: What the trader's container has mounted if it runs a node of the user's own, and the setting that names it.
_MOUNTED = {"/etc/trader/node.json": "TRADER_CONFIG", "/opt/user": "TRADER_CODE_DIR"}


def port_variable(service: str) -> str:
    """Return the setting that holds the published port of a node or a Sentinel."""
    return service.upper().replace("-", "_") + "_PORT"


@dataclass(frozen=True, slots=True)
class Promotion:
    """A failover as seen from outside; times in seconds after the fault."""

    master: str
    #: The new master holds a write of the link that the old one never had.
    first_write: float


class Stack(Containers):
    """One running stack, named by the environment as the Compose files read it."""

    def __init__(
        self, root: Path, files: tuple[str, ...] = (_BASE,), environment: Mapping[str, str] | None = None
    ) -> None:
        settings = {**os.environ, **(environment or {})}
        super().__init__(
            root,
            settings.get("COMPOSE_PROJECT_NAME", "nautilus-redis-ha"),
            files,
            settings,
            # The checkout is mounted into it.
            f"nautilus-redis-ha/drill-tools:{settings.get('IMAGE_TAG', 'local')}",
        )
        self.trader = Trader(self, TRADER, self.environment.get("TRADER_ID") or DEFAULT_IDS[TRADER])
        self.traders = [self.trader]
        if _SECOND in files:
            second = self.environment.get("TRADER_2_ID") or DEFAULT_IDS[SECOND_TRADER]
            self.traders.append(Trader(self, SECOND_TRADER, second))
        self._subnet = self.environment.get("SUBNET_PREFIX", _DEFAULT_SUBNET)
        #: What its nodes and Sentinels want of whoever connects; None: plain text, no login.
        self.secrets = (
            Secrets(root / (self.environment.get("SECRETS_DIR") or "secrets"))
            if _STAGING in files or self.environment.get(_TLS) == "yes"
            else None
        )
        self._access = RedisAccess(
            {
                service: (self.ip(service), _INNER_PORTS[service])
                if self.secrets
                else (_HOST, int(self.environment.get(port_variable(service)) or default))
                for service, default in _DEFAULT_PORTS.items()
            },
            self.secrets,
        )

    @property
    def services(self) -> tuple[str, ...]:
        """All services that run Redis, watch it or trade."""
        return (*NODES, *SENTINELS, *(trader.service for trader in self.traders))

    @property
    def trader_id(self) -> str:
        """The identity of the first trader."""
        return self.trader.id

    @classmethod
    def discover(cls, root: Path, project: str) -> Stack:
        """Return the stack that runs under a project name, whatever settings it was started with.

        Addresses, ports and the trader's id are read off its containers, so that Compose files evaluate to the same.

        Raises
        ------
        DockerError
            If there is no such stack, or it is not one with failover.

        """
        found = containers_of(project)
        absent = [service for service in SERVICES if service not in found]
        # One, if replacing its container was interrupted: it can be created again.
        if len(absent) > 1 or "trader" in absent:
            what = f"has no {', '.join(absent)}: the drills need the stack with failover" if found else "does not run"
            raise DockerError(f'the stack "{project}" {what}')
        labels = found["trader"]["Config"]["Labels"]
        environment = {
            "COMPOSE_PROJECT_NAME": project,
            "IMAGE_TAG": found["trader"]["Config"]["Image"].rpartition(":")[2],
            "STACK_ENVIRONMENT": labels.get("nautilus-redis-ha.environment", "development"),
        }
        for service, names in _SHOWN_BY.items():
            shown = environment_of(found[service]) if service in found else {}
            # What nobody set is empty in some containers; Compose tells that from a setting that is not there.
            environment |= {name: value for name, value in shown.items() if value and name.startswith(names)}
        for mount in found["trader"]["Mounts"]:
            if mount["Destination"] in _MOUNTED:
                environment[_MOUNTED[mount["Destination"]]] = mount["Source"]
        addresses = [
            entry.partition("=")[2]
            for node in NODES
            for entry in (found[node]["Config"]["Env"] if node in found else ())
            if entry.startswith("NODE_IP=")
        ]
        environment["SUBNET_PREFIX"] = addresses[0].rpartition(".")[0]
        for service in (*NODES, *SENTINELS, *_PAGES):
            if service not in found:
                continue
            bindings = [ports for ports in found[service]["HostConfig"]["PortBindings"].values() if ports]
            if bindings:
                environment[port_variable(service)] = bindings[0][0]["HostPort"]
        if SECOND_TRADER in found:
            environment["TRADER_2_ID"] = environment_of(found[SECOND_TRADER])["TRADER_ID"]
        node = next(found[node] for node in NODES if node in found)
        environment[_TLS] = environment_of(node).get(_TLS, "")
        for mount in node["Mounts"]:
            if mount["Destination"] == _TLS_MOUNT:
                environment["SECRETS_DIR"] = str(Path(mount["Source"]).parents[1])
        directory = Path(labels.get("com.docker.compose.project.working_dir", root))
        files = (file for file in compose_files_of(found) if file.is_relative_to(directory))
        inside = tuple(str(file.relative_to(directory)) for file in files)
        # `docker compose up` names the including file, which holds the base.
        stack = cls(directory, inside or (_BASE,), environment)
        if stack.secrets and (lacking := stack.secrets.lacking()):
            raise DockerError(lacking)
        return stack

    # --- Redis and Sentinel ------------------------------------------------------------------------------------

    def ip(self, service: str) -> str:
        """Return the fixed address of a service inside the stack."""
        return f"{self._subnet}.{_LAST_BYTES[service]}"

    def address(self, service: str) -> tuple[str, int]:
        """Return host and port at which this host reaches a node or a Sentinel."""
        return self._access.addresses[service]

    @property
    def subnet(self) -> str:
        """The range of addresses of the stack's network."""
        return f"{self._subnet}.0/24"

    @property
    def guests(self) -> str:
        """The range of addresses, inside the subnet, of whatever else joins the network: the drills' own traffic."""
        return f"{self._subnet}.128/25"

    @property
    def gateway(self) -> str:
        """The host's address inside the stack, from which whatever uses a published port arrives."""
        return f"{self._subnet}.1"

    def client(self, service: str, timeout: float = 1.0, *, decode: bool = True) -> Redis:
        """Return a client of a node or a Sentinel; ``timeout`` in seconds, ``decode``: replies are text."""
        return self._access.client(service, timeout, decode=decode)

    def reader(self, node: str, *, decode: bool = True) -> Redis:
        """Return a client for reading much of what a node holds.

        It connects again if it is cut off: a Sentinel that tells a node whom to follow ends all its connections, and
        may do so again when it sees that late (sentinelSendSlaveOf in sentinel.c).
        """
        return self._access.client(node, 30.0, decode=decode, persists=True)

    def client_as(self, service: str, user: str, certificate: str = ADMIN, timeout: float = 1.0) -> Redis:
        """Return a client that logs in as somebody else than the administrator, with somebody's certificate."""
        return self._access.client(service, timeout, user=user, certificate=certificate)

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

    def promoted(self, old: str) -> str:
        """Return the node other than ``old`` that says it is master and that most Sentinels name; empty if none."""
        try:
            master = self.master()
            return master if master != old and self.role(master) == "master" else ""
        except (RedisError, OSError, RuntimeError):
            return ""

    def has_replicas(self, master: str, count: int) -> bool:
        """Whether a master has so many replicas that are in sync."""
        info = self.client(master).info("replication")
        return sum(info.get(f"slave{index}", {}).get("state") == "online" for index in range(3)) >= count

    def seen_by(self, sentinel: str) -> dict[str, str]:
        """Return the fields of ``SENTINEL MASTER``: what a Sentinel knows of the master, and its settings for it."""
        answer = self.client(sentinel).execute_command("SENTINEL", "MASTER", MASTER_NAME)
        return dict(zip(answer[::2], answer[1::2], strict=True))

    def set_down_after(self, sentinel: str, milliseconds: int) -> None:
        """Set for how long a master may be silent before a Sentinel suspects it."""
        self.client(sentinel).execute_command("SENTINEL", "SET", MASTER_NAME, "down-after-milliseconds", milliseconds)

    def role(self, node: str) -> str:
        """Return what a node says of itself: master or slave."""
        return str(self.client(node).role()[0])

    def marker(self, node: str) -> tuple[str, int]:
        """Return owner and last entry of the link's marker on a node."""
        return self.trader.marker(node)

    def lacking(self) -> str:
        """Return in words what keeps the stack from surviving the loss of its master; empty if nothing does."""
        try:
            master = self.master()
        except RuntimeError as error:
            return str(error)
        for node in NODES:
            try:
                role = self.role(node)
            except (RedisError, OSError):
                return f"{node} does not answer"
            if role != ("master" if node == master else "slave"):
                return f"the Sentinels name {master} as the master, and {node} says that it is a {role}"
        try:
            if not self.has_replicas(master, 2):
                return f"{master} has not both replicas in sync"
        except (RedisError, OSError):
            return f"{master} does not answer"
        for sentinel in SENTINELS:
            try:
                answer = str(self.client(sentinel).execute_command("SENTINEL", "CKQUORUM", MASTER_NAME))
            except (RedisError, OSError) as error:
                answer = str(error)
            if not answer.startswith("OK"):
                return f"no failover possible: {sentinel} says: {answer}"
        return ""

    def whole(self) -> bool:
        """Whether there is one master with two replicas in sync, and every Sentinel could fail over."""
        return not self.lacking()

    def all_healthy(self) -> bool:
        """Whether every service's healthcheck succeeds."""
        containers = self.containers()
        return all(containers[service]["State"]["Health"]["Status"] == "healthy" for service in self.services)

    def connect(self, service: str) -> None:
        """Put a container back on the network with its fixed address."""
        docker("network", "connect", "--ip", self.ip(service), f"{self.project}_stack", self.container(service))

    def revive(self) -> list[str]:
        """Let all containers go on, on their network; return what was done for that."""
        done = []
        for service in self.services:
            state = self.inspect_container(service)["State"]
            if state["Paused"]:
                self.unpause(service)
                done.append(f"{service}: thawed")
            if not self.connected(service):
                self.connect(service)
                done.append(f"{service}: connected to the network")
            if not state["Running"]:
                self.start(service)
                done.append(f"{service}: started")
        return done

    def wait_until_well(self, seconds: float) -> None:
        """Wait until the stack is whole and trades. Raises ``TimeoutError``, which says what is missing."""
        try:
            wait_until(self.whole, seconds, "one master with two replicas in sync")
            self.wait_until_traders_are_well(seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {self.lacking() or self._said_by_the_links()}") from None

    def wait_until_traders_are_well(self, seconds: float) -> None:
        """Wait until every trader is healthy and its link applies writes. Raises ``TimeoutError``."""
        for trader in self.traders:
            who = trader.service
            wait_until(lambda t=trader: t.link()["state"] == "ready", seconds, f"the link of the {who} applies writes")
            wait_until(lambda who=who: self.healthy(who), seconds, f"the {who} is healthy")

    def _said_by_the_links(self) -> str:
        said = []
        for trader in self.traders:
            try:
                link = trader.link()
            except (DockerError, ValueError) as error:
                said.append(f"the link of {trader.service} does not answer: {str(error)[-200:]}")
            else:
                said.append(f"link of {trader.service}: {link['state']} {link['reason']}".strip())
        return "; ".join(said)

    def heal(self, seconds: float = 90.0) -> None:
        """Undo whatever was done to the containers and wait until the stack is whole and trades."""
        self.revive()
        self.wait_until_well(seconds)

    # --- the trader ----------------------------------------------------------------------------------------------

    def link(self) -> dict[str, Any]:
        """Return the link's state."""
        return self.trader.link()

    def holding(self) -> bool:
        """Whether the link holds writes because there is no master that takes them."""
        return self.trader.holding()

    def report(self, *options: str) -> dict[str, Any]:
        """Return the node's own record of its positions, orders and accounts."""
        return self.trader.report(*options)

    def wait_for_writes(self, entries: int = 10, seconds: float = 30.0) -> None:
        """Wait until the link has applied more entries: proof that the node trades and Redis takes it."""
        self.wait_for_writes_on(self.master(), entries, seconds)

    def wait_for_writes_on(self, node: str, entries: int = 10, seconds: float = 30.0) -> None:
        """The same for a node that is the master, whatever the Sentinels say by now."""
        self.trader.wait_for_writes_on(node, entries, seconds)

    def wait_for_promotion(self, old: str, fault_at: float, seconds: float = 60.0) -> Promotion:
        """Wait until another node than ``old`` holds a write that the link made after the fault.

        ``fault_at`` is the monotonic time of the fault. The marker's owner changes with each connection of the link, so
        a write under a new owner is one that the new master took itself.
        """
        others = [node for node in NODES if node != old]
        clients = {node: self.client(node, 0.3) for node in others}
        key = self.trader.marker_key
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
