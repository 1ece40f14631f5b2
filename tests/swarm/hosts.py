"""Three hosts on this machine, each a container with a Docker engine of its own in it, joined to a swarm."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

from drills.stack import DockerError, docker
from drills.waiting import wait_until

NUMBERS = (1, 2, 3)
#: What an engine in a container needs beyond the default. Less than --privileged, which some machines cannot give.
_CAPABILITIES = (
    "DAC_READ_SEARCH",
    "IPC_LOCK",
    "LINUX_IMMUTABLE",
    "NET_ADMIN",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PTRACE",
)


class Hosts:
    """The hosts, by number.

    Parameters
    ----------
    name
        Beginning of the names of everything that is made.
    prefix
        First three parts of their network's addresses.
    image
        Image of a host.

    """

    def __init__(self, name: str, prefix: str, image: str) -> None:
        self.name = name
        self._prefix = prefix
        self._image = image
        # Short: a socket's path has room for about 100 characters.
        self._sockets = Path(tempfile.mkdtemp(prefix="hosts-"))

    def address(self, number: int) -> str:
        """Return the address of a host in the network of the three."""
        return f"{self._prefix}.{10 + number}"

    def engine(self, number: int) -> str:
        """Return what DOCKER_HOST has to be for the engine of a host."""
        return f"unix://{self._sockets / str(number)}/docker.sock"

    def docker(self, number: int, *arguments: str, timeout: float = 120.0) -> str:
        """Run a docker command at the engine of a host. Raises ``DockerError`` if it fails."""
        return docker("--host", self.engine(number), *arguments, timeout=timeout)

    def up(self, images: Iterable[str]) -> None:
        """Start the hosts, bring images to them, and join them to a swarm with the labels of ``compose/swarm.yaml``."""
        self._remove_containers()
        docker("network", "create", "--subnet", f"{self._prefix}.0/24", self.name)
        with ThreadPoolExecutor(len(NUMBERS)) as threads:
            list(threads.map(self._create, NUMBERS))
            self._load(list(images))
        self.docker(1, "swarm", "init", "--advertise-addr", self.address(1), "--default-addr-pool", "10.97.0.0/17")
        token = self.docker(1, "swarm", "join-token", "--quiet", "manager").strip()
        for number in NUMBERS[1:]:
            self.docker(number, "swarm", "join", "--token", token, self.address(1))
        for number in NUMBERS:
            self.label(number, f"redis-ha.host={number}")

    def label(self, number: int, label: str) -> None:
        """Give a host a label of Swarm."""
        self.docker(1, "node", "update", "--label-add", label, self._host(number))

    def unlabel(self, number: int, label: str, by: int) -> None:
        """Take a label from a host, at the engine of the host ``by``."""
        self.docker(by, "node", "update", "--label-rm", label, self._host(number))

    def kill(self, number: int) -> None:
        """Kill a host: its engine and every process on it, in one moment."""
        docker("kill", self._host(number))

    def start(self, number: int) -> None:
        """Start a host that was killed."""
        docker("start", self._host(number))

    def runs(self, number: int) -> bool:
        """Whether a host runs."""
        return docker("inspect", "--format", "{{.State.Running}}", self._host(number)).strip() == "true"

    def logs(self, number: int) -> str:
        """Return the last lines of an engine's log."""
        return docker("logs", "--tail", "20", self._host(number))

    def remove(self) -> None:
        """Remove the hosts with everything in them."""
        self._remove_containers()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _host(self, number: int) -> str:
        return f"{self.name}-{number}"

    def _create(self, number: int) -> None:
        (self._sockets / str(number)).mkdir()
        docker(
            "run",
            "--detach",
            *(part for capability in _CAPABILITIES for part in ("--cap-add", capability)),
            *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
            # The engine writes to /proc/sys.
            *("--security-opt", "systempaths=unconfined", "--device-cgroup-rule", "a *:* rwm"),
            *("--name", self._host(number), "--hostname", self._host(number)),
            *("--network", self.name, "--ip", self.address(number)),
            *(
                "--volume",
                f"{self._host(number)}:/var/lib/docker",
                "--volume",
                f"{self._sockets / str(number)}:/run/host",
            ),
            self._image,
            # What Swarm has no option for at a service: docs/swarm.md.
            *("--no-new-privileges", "--storage-driver", "overlay2"),
            # Not the ranges of the engine outside, whose networks these hosts are in.
            *("--default-address-pool", f"base=10.{96 + number}.240.0/20,size=24"),
        )
        wait_until(lambda: self.docker(number, "info"), 60.0, f"the engine of host {number} answers", 0.5)

    def _load(self, images: list[str]) -> None:
        # From disk: three times from the images' layers would take three times as long.
        with tempfile.TemporaryDirectory(dir=self._sockets) as directory:
            archive = Path(directory) / "images.tar"
            docker("save", "--output", str(archive), *images, timeout=600.0)
            loading = [
                Popen(
                    ["docker", "--host", self.engine(number), "load", "--quiet", "--input", str(archive)],
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    stderr=PIPE,
                    text=True,
                    env=dict(os.environ),
                )
                for number in NUMBERS
            ]
            for process in loading:
                _, said = process.communicate(timeout=900.0)
                if process.returncode:
                    raise DockerError(f"docker load: {said}")

    def _remove_containers(self) -> None:
        for number in NUMBERS:
            if docker("ps", "--all", "--quiet", "--filter", f"name=^{self._host(number)}$").strip():
                docker("rm", "--force", "--volumes", self._host(number))
            if docker("volume", "ls", "--quiet", "--filter", f"name=^{self._host(number)}$").strip():
                docker("volume", "rm", self._host(number))
        if docker("network", "ls", "--quiet", "--filter", f"name=^{self.name}$").strip():
            docker("network", "rm", self.name)
