"""The Compose stack under test: what its parts say, and what can be done to them.

Talks to Docker by its command line and to Redis as redis_access.py says, so it needs nothing of the stack's own code.
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

from .redis_access import ADMIN, RedisAccess, Secrets
from .trader import DEFAULT_IDS, SECOND_TRADER, TRADER, Trader
from .waiting import wait_until

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
#: On containers that a drill runs beside those of the stack; the value is the stack's project name.
HELPER_LABEL = "nautilus-redis-ha.drill"


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
        # Ctrl-C is for us: what was begun is ended, or a container would stay half-way.
        process_group=0,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise DockerError(f"docker {' '.join(arguments[:6])}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def containers_of(project: str) -> dict[str, Any]:
    """Return what Docker knows of a project's containers, by service; one-off containers are left out."""
    ids = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}").split()
    if not ids:
        return {}
    found: list[dict[str, Any]] = json.loads(docker("inspect", *ids))
    return {
        state["Config"]["Labels"]["com.docker.compose.service"]: state
        for state in found
        if state["Config"]["Labels"].get("com.docker.compose.oneoff") != "True"
    }


def docker_logs(container: str, lines: int) -> str:
    """Return the last lines that a container logged, on both of its streams."""
    done = subprocess.run(
        ["docker", "logs", "--tail", str(lines), container],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def environment_of(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment with which a container was made, from what Docker knows of it.

    A variable that Compose passes on though it is not set has no value there: it is empty.
    """
    return {name: value for name, _, value in (entry.partition("=") for entry in container["Config"]["Env"])}


def port_variable(service: str) -> str:
    """Return the setting that holds the published port of a node or a Sentinel."""
    return service.upper().replace("-", "_") + "_PORT"


@dataclass(frozen=True, slots=True)
class Promotion:
    """A failover as seen from outside; times in seconds after the fault."""

    master: str
    #: The new master holds a write of the link that the old one never had.
    first_write: float


class Stack:
    """One running stack, named by the environment as the Compose files read it."""

    def __init__(
        self, root: Path, files: tuple[str, ...] = (_BASE,), environment: Mapping[str, str] | None = None
    ) -> None:
        self.root = root
        self.environment = {**os.environ, **(environment or {})}
        self.project = self.environment.get("COMPOSE_PROJECT_NAME", "nautilus-redis-ha")
        self.trader = Trader(self, TRADER, self.environment.get("TRADER_ID") or DEFAULT_IDS[TRADER])
        self.traders = [self.trader]
        if _SECOND in files:
            second = self.environment.get("TRADER_2_ID") or DEFAULT_IDS[SECOND_TRADER]
            self.traders.append(Trader(self, SECOND_TRADER, second))
        #: What runs the traffic and changes packet filters: the checkout is mounted into it.
        self.image = f"nautilus-redis-ha/drill-tools:{self.environment.get('IMAGE_TAG', 'local')}"
        self._subnet = self.environment.get("SUBNET_PREFIX", _DEFAULT_SUBNET)
        self._files = [part for name in files for part in ("-f", str(root / name))]
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

    # --- Docker --------------------------------------------------------------------------------------------------

    def compose(self, *arguments: str, timeout: float = 240.0, environment: Mapping[str, str] | None = None) -> str:
        """Run docker compose on this stack; ``environment`` wins over its own."""
        return docker(
            "compose",
            "--project-directory",
            str(self.root),
            *self._files,
            *arguments,
            timeout=timeout,
            environment={**self.environment, **(environment or {})},
        )

    def containers(self) -> dict[str, Any]:
        """Return what Docker knows of all containers, by service."""
        return containers_of(self.project)

    def environment_of(self, service: str) -> dict[str, str]:
        """Return the environment with which a service's container was made."""
        return environment_of(self.inspect_container(service))

    def start_times(self) -> dict[str, str]:
        """Return when each container was started: the same means that it is the same process still."""
        return {service: state["State"]["StartedAt"] for service, state in self.containers().items()}

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.project}-{service}-1"

    def inspect_container(self, service: str) -> dict[str, Any]:
        """Return what Docker knows of a service's container."""
        state: dict[str, Any] = json.loads(docker("inspect", self.container(service)))[0]
        return state

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
            environment |= {name: value for name, value in shown.items() if name.startswith(names)}
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
        for service in (*NODES, *SENTINELS):
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
        # All of them: an overlay may have been added while the others ran on.
        files = dict.fromkeys(
            Path(name)
            for container in found.values()
            for name in container["Config"]["Labels"].get("com.docker.compose.project.config_files", "").split(",")
            if name
        )
        inside = tuple(str(file.relative_to(directory)) for file in files if file.is_relative_to(directory))
        # `docker compose up` names the including file, which holds the base.
        stack = cls(directory, inside or (_BASE,), environment)
        if stack.secrets and (lacking := stack.secrets.lacking()):
            raise DockerError(lacking)
        return stack

    def running(self, service: str) -> bool:
        """Whether a service's container runs and is not paused."""
        state = self.inspect_container(service)["State"]
        # One that ends again and again counts as running for Docker, between its attempts too.
        return bool(state["Running"] and not state["Paused"] and not state["Restarting"])

    def healthy(self, service: str) -> bool:
        """Whether a service's healthcheck succeeds."""
        return bool(self.inspect_container(service)["State"]["Health"]["Status"] == "healthy")

    def all_healthy(self) -> bool:
        """Whether every service's healthcheck succeeds."""
        containers = self.containers()
        return all(containers[service]["State"]["Health"]["Status"] == "healthy" for service in self.services)

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

    def ensure_running(self, *services: str) -> None:
        """Start those of the containers that do not run."""
        stopped = [service for service in services if not self.inspect_container(service)["State"]["Running"]]
        if stopped:
            self.start(*stopped)

    def ensure_thawed(self, *services: str) -> None:
        """Let those of the containers go on that are frozen."""
        for service in services:
            if self.inspect_container(service)["State"]["Paused"]:
                self.unpause(service)

    def beside(self, service: str, *command: str, stdin: str = "", options: tuple[str, ...] = ()) -> str:
        """Run a command as root in the drills' image, in the network and process namespaces of a service's container.

        ``options`` are further ones of ``docker run``, for example ``("--volumes-from", container)``. It may change
        addresses and packet filters of that container, and nothing of the host. Resource limits need
        ``("--cap-add", "SYS_RESOURCE")``, which not every host can grant.
        """
        done = subprocess.run(
            self._beside(service, command, options),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise DockerError(f"beside {service}: {' '.join(command)[:200]}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def on_volume(self, service: str, script: str, *arguments: str) -> str:
        """Run a shell script as root on the files of a service's container, which may be stopped."""
        return docker(
            *("run", "--rm", "--user", "0:0", "--label", f"{HELPER_LABEL}={self.project}", "--network", "none"),
            *("--volumes-from", self.container(service), self.image, "sh", "-euc", script, "sh", *arguments),
            timeout=60,
        )

    def start_beside(self, service: str, *command: str) -> subprocess.Popen[str]:
        """Start such a command and return at once; its input, output and errors are pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self._beside(service, command), stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def _beside(self, service: str, command: tuple[str, ...], options: tuple[str, ...] = ()) -> list[str]:
        name = self.container(service)
        return [
            *("docker", "run", "--rm", "--interactive", "--user", "0:0", "--cap-add", "NET_ADMIN"),
            *("--cap-add", "SYS_PTRACE", "--label", f"{HELPER_LABEL}={self.project}"),
            *("--network", f"container:{name}", "--pid", f"container:{name}", *options, self.image, *command),
        ]

    def execute(self, service: str, *command: str, timeout: float = 60.0) -> str:
        """Run a command in a service's container and return its output."""
        return docker("exec", self.container(service), *command, timeout=timeout)

    def logs(self, service: str, lines: int = 40) -> str:
        """Return the last lines that a service logged."""
        return docker_logs(self.container(service), lines)

    # --- Redis and Sentinel --------------------------------------------------------------------------------------

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
