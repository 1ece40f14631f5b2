"""The containers of one Compose project: what Docker knows of them, and what its command line can do to them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

#: Seconds in which a container has to let itself be frozen.
_FREEZING = 10.0
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


def compose_files_of(containers: Mapping[str, Any]) -> list[Path]:
    """Return the Compose files that containers were made of, each once; containers by service, as Docker tells them.

    All of them, not those of one: an overlay may have been added while the others ran on.
    """
    label = "com.docker.compose.project.config_files"
    names = (container["Config"]["Labels"].get(label, "").split(",") for container in containers.values())
    return list(dict.fromkeys(Path(name) for each in names for name in each if name))


def environment_of(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment with which a container was made, from what Docker knows of it.

    A variable that Compose passes on though it is not set has no value there: it is empty.
    """
    return {name: value for name, _, value in (entry.partition("=") for entry in container["Config"]["Env"])}


class Containers:
    """Those of one project. ``image`` is what is run beside them: it has the tools for packet filters and limits."""

    def __init__(
        self, root: Path, project: str, files: tuple[str, ...], environment: Mapping[str, str], image: str
    ) -> None:
        self.root = root
        self.project = project
        self.environment = environment
        self.image = image
        self._files = [part for name in files for part in ("-f", str(root / name))]

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

    def running(self, service: str) -> bool:
        """Whether a service's container runs and is not paused."""
        state = self.inspect_container(service)["State"]
        # One that ends again and again counts as running for Docker, between its attempts too.
        return bool(state["Running"] and not state["Paused"] and not state["Restarting"])

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
        """Freeze all processes of a container; its connections stay open and silent.

        The runtime gives up, and thaws what it had, while a process of the container just begins or waits for the disk;
        to ask again is left to its caller (opencontainers/runc#4388).
        """
        attempt = retry(
            stop=stop_after_delay(_FREEZING),
            wait=wait_fixed(0.05),
            retry=retry_if_exception_message(match=".*unable to freeze"),
            reraise=True,
        )
        attempt(docker)("pause", self.container(service))

    def unpause(self, service: str) -> None:
        """Let a frozen container go on."""
        docker("unpause", self.container(service))

    def disconnect(self, service: str) -> None:
        """Take a container off the network."""
        docker("network", "disconnect", f"{self.project}_stack", self.container(service))

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
