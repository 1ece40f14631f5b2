"""The stack in the swarm of :mod:`tests.swarm.hosts`: deployed by its script, asked through its own containers."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from drills.records import Comparison, compare_records
from drills.stack import DockerError
from drills.waiting import wait_until
from tests.stacks import ROOT
from trader_node.compare import SECTIONS

from .hosts import NUMBERS, Hosts

_MASTER_NAME = "mymaster"
#: The node keeps everything.
_KEEP_MINUTES = 0.0
#: Times to read everything until the node has changed nothing meanwhile.
_ATTEMPTS = 10


class SwarmStack:
    """The stack, by the numbers of its hosts; ``options`` and ``settings`` are those of ``./scripts/swarm deploy``."""

    def __init__(self, hosts: Hosts, options: tuple[str, ...], settings: Mapping[str, str]) -> None:
        self.hosts = hosts
        #: Beginning of the names of its services and volumes.
        self.name = "positions"
        self._options = options
        self._trader_image = f"nautilus-redis-ha/trader:{os.environ.get('IMAGE_TAG', 'local')}"
        addresses = {f"SWARM_HOST_{number}": hosts.address(number) for number in NUMBERS}
        self._settings = {
            **addresses,
            "COMPOSE_PROJECT_NAME": self.name,
            "TRADER_KEEP_CLOSED_MINUTES": f"{_KEEP_MINUTES:g}",
            **settings,
        }

    def script(self, action: str, manager: int, *options: str, **settings: str) -> str:
        """Run ``./scripts/swarm`` at the engine of a host and return what it says. Raises ``DockerError``."""
        done = subprocess.run(
            [str(ROOT / "scripts/swarm"), action, *options],
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self._settings, **settings, "DOCKER_HOST": self.hosts.engine(manager)},
        )
        if done.returncode:
            raise DockerError(f"scripts/swarm {action}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
        return done.stdout

    def deploy(self, manager: int, **settings: str) -> str:
        """Deploy the stack as it was given, with further settings."""
        return self.script("deploy", manager, *self._options, **settings)

    def container(self, service: str, number: int) -> str:
        """Return the id of a service's running container on a host. Raises ``RuntimeError`` if there is none."""
        name = f"name=^{self.name}_{service}\\."
        found = self.hosts.docker(number, "ps", "--quiet", "--filter", name).split()
        if len(found) != 1:
            raise RuntimeError(f"{len(found)} containers of {service} on host {number}")
        return found[0]

    def has(self, service: str, number: int) -> bool:
        """Whether a host has a running container of a service."""
        try:
            self.container(service, number)
        except RuntimeError as error:
            if str(error).startswith("0 containers"):
                return False
            raise
        return True

    def scale_trader(self, replicas: int, by: int) -> None:
        """Stop the trader's service (0) or let it run (1)."""
        self.hosts.docker(by, "service", "scale", "--detach", f"{self.name}_trader={replicas}")

    def execute(self, service: str, number: int, *command: str) -> str:
        """Run a command in a service's container."""
        return self.hosts.docker(number, "exec", self.container(service, number), *command)

    def cli(self, service: str, number: int, *arguments: str) -> str:
        """Run a Redis command at a node or a Sentinel."""
        return self.execute(service, number, "sh", "/opt/redis-node/cli.sh", *arguments)

    def info(self, number: int) -> dict[str, str]:
        """Return what the node of a host says of its replication."""
        lines = self.cli(f"redis-{number}", number, "INFO", "replication").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def master(self, asked: int) -> int:
        """Return the host of the master as the Sentinel of the host ``asked`` sees it."""
        said = self.cli(f"sentinel-{asked}", asked, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", _MASTER_NAME).split()
        return next(number for number in NUMBERS if self.hosts.address(number) == said[0])

    def serves(self, number: int) -> bool:
        """Whether the node of a host is master and has a replica that follows."""
        info = self.info(number)
        return info["role"] == "master" and int(info["connected_slaves"]) > 0

    def follows(self, number: int, master: int) -> bool:
        """Whether the node of a host is a replica of another host's, connected."""
        info = self.info(number)
        master_address = self.hosts.address(master)
        return (info["role"], info.get("master_host"), info.get("master_link_status")) == (
            "slave",
            master_address,
            "up",
        )

    def fail_over(self, asked: int) -> int:
        """Make Sentinel move the master to another host; return that host."""
        before = self.master(asked)
        self.cli(f"sentinel-{asked}", asked, "SENTINEL", "FAILOVER", _MASTER_NAME)
        wait_until(
            lambda: self.master(asked) != before and self.serves(self.master(asked)), 60.0, "another master", 0.5
        )
        return self.master(asked)

    def wait_until_whole(self, asked: int, seconds: float = 120.0) -> None:
        """Wait until there are a master and two replicas, and every Sentinel sees a quorum."""

        def whole() -> bool:
            master = self.master(asked)
            quorum = all(
                self.cli(f"sentinel-{number}", number, "SENTINEL", "CKQUORUM", _MASTER_NAME).startswith("OK 3")
                for number in NUMBERS
            )
            return quorum and all(self.follows(number, master) for number in NUMBERS if number != master)

        wait_until(whole, seconds, "a master, two replicas and three Sentinels", 0.5)

    def put_journal_aside(self, number: int) -> None:
        """Give up the journal that an earlier trader left on a host, as docs/swarm.md says."""
        folder = "/var/lib/trader/TRADER-001"
        self.hosts.docker(
            number,
            *(
                "run",
                "--rm",
                "--network",
                "none",
                "--volume",
                f"{self.name}_trader:/var/lib/trader",
                self._trader_image,
            ),
            *("mv", f"{folder}/journal", f"{folder}/journal-given-up"),
        )

    # --- The trader ----------------------------------------------------------------------------------------------

    def report(self, number: int, *options: str) -> dict[str, Any]:
        """Return the record of the trading node, which runs on a host."""
        record: dict[str, Any] = json.loads(
            self.execute("trader", number, "python", "-m", "trader_node.report", *options)
        )
        return record

    def process(self, number: int) -> tuple[str, int, int]:
        """Return what tells the node's process from any other."""
        ping = self.report(number, "--ping")
        return self.container("trader", number), ping["pid"], ping["started_ns"]

    def settled_record(self, number: int) -> dict[str, Any]:
        """Return the node's record at a moment at which all of it was in Redis; the node goes on."""
        record = self.report(number, "--quiesce")
        self.report(number, "--resume")
        # Not "quiesced": an order that was under way when the node's process was killed stays so for a while.
        assert record["flushed"]
        return record

    def wait_for_orders(self, number: int, known: Mapping[str, Any], seconds: float = 60.0, count: int = 10) -> None:
        """Wait until the node has made orders that are not in ``known``."""

        def new() -> int:
            return len(self.report(number)["orders"].keys() - known["orders"].keys())

        wait_until(lambda: new() >= count, seconds, f"{count} new orders", 0.5)

    def compare(self, number: int, known: dict[str, Any], nodes: tuple[int, ...]) -> dict[int, Comparison]:
        """Compare the node's own record with what the Redis nodes of some hosts hold, one by one.

        ``known`` is an earlier record: nothing of it may be missing either.
        """
        try:
            for _ in range(_ATTEMPTS):
                own = self.report(number, "--quiesce")
                assert own["flushed"]
                self._wait_until_replicated(nodes)
                held = {node: self._in_redis(node, number) for node in nodes}
                now = self.report(number)
                if all(now[part] == own[part] for part in SECTIONS):
                    break
            else:
                raise RuntimeError("the node goes on changing though its orders are held back: nothing to compare")
        finally:
            self.report(number, "--resume")
        return {
            node: compare_records(own, record, known, _KEEP_MINUTES, time.time_ns()) for node, record in held.items()
        }

    def _in_redis(self, node: int, trader: int) -> dict[str, Any]:
        """Return the record rebuilt from what the node of a host holds, in the trader's container."""
        address = f"{self.hosts.address(node)}:6379"
        command = ("python", "-m", "trader_node.inspect", "--json", "--address", address)
        record: dict[str, Any] = json.loads(self.execute("trader", trader, *command))
        return record

    def _wait_until_replicated(self, nodes: tuple[int, ...]) -> None:
        written = next(int(info["master_repl_offset"]) for info in map(self.info, nodes) if info["role"] == "master")

        def caught_up() -> bool:
            replicas = [info for info in map(self.info, nodes) if info["role"] == "slave"]
            return all(int(info["slave_repl_offset"]) >= written for info in replicas)

        wait_until(caught_up, 30.0, "the replicas hold what the master holds")
