"""What an operator would check of the staging template before it gets near a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drills.stack import NODES, SENTINELS, Stack, containers_of, docker
from drills.waiting import wait_until
from tests.stacks import refusal, run_script

#: What is denied while all is well, by user; it works without. A link asks how many databases there are, redis_exporter
#: for the whole configuration, redis-cli for the documentation of commands that it gets through its input.
EXPECTED_DENIALS = {
    ("trader", "config|get"),
    ("metrics", "config|get"),
    ("health", "command"),
    ("health", "command|docs"),
}


@pytest.fixture(scope="module")
def containers(running_stack: Stack) -> dict[str, Any]:
    return containers_of(running_stack.project)


@pytest.fixture(scope="module")
def secrets(secrets_dir: Path) -> dict[str, str]:
    """Everything that nobody may see: passwords, and a line of each key."""
    found = {path.name: path.read_text().strip() for path in (secrets_dir / "passwords").iterdir()}
    for path in (secrets_dir / "tls").rglob("*.key"):
        found[f"{path.parent.name}/{path.name}"] = path.read_text().splitlines()[1]
    assert len(found) > 10
    assert all(len(secret) > 20 for secret in found.values())
    return found


def _shown(secrets: dict[str, str], text: str) -> list[str]:
    return [name for name, secret in secrets.items() if secret in text]


def test_no_secret_shows(containers: dict[str, Any], secrets: dict[str, str]) -> None:
    for service, container in containers.items():
        assert not _shown(secrets, json.dumps(container)), f"docker inspect of {service}"
        assert not _shown(secrets, docker("logs", container["Id"])), f"what {service} logs"


def test_no_process_list_shows_a_password(containers: dict[str, Any], secrets: dict[str, str]) -> None:
    """Health checks log in over and over: enough of them are looked at."""
    logins: set[str] = set()

    def look() -> bool:
        for pid, arguments in _processes():
            assert not _shown(secrets, arguments), arguments.split("\0")[0]
            if "redis-cli\0--user\0health" in arguments:
                logins.add(pid)
        return len(logins) >= 5

    wait_until(look, 60, "health checks that log in are seen", 0.002)


def _processes() -> Iterator[tuple[str, str]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.parent.name, path.read_text(errors="replace")
        except OSError:
            continue


def test_every_container_is_bounded(containers: dict[str, Any], running_stack: Stack) -> None:
    for service, container in containers.items():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert not host["Privileged"], service
        assert 0 < host["PidsLimit"] <= 256, service
        assert host["NanoCpus"] > 0, service
        assert host["Memory"] > 0, service
        assert container["Config"]["Labels"]["nautilus-redis-ha.environment"] == "staging", service
    for service in running_stack.services:
        host = containers[service]["HostConfig"]
        assert host["MemorySwap"] == host["Memory"], f"{service} may swap"
        assert host["PortBindings"] in (None, {}), f"{service} publishes a port"
        assert {"Name": "core", "Hard": 0, "Soft": 0} in host["Ulimits"], f"{service} may dump its memory"
        processes = docker("top", containers[service]["Id"], "-eo", "pid,uid").splitlines()[1:]
        assert processes
        assert all(line.split()[1] != "0" for line in processes), f"{service} runs as root"


@pytest.mark.timeout(180)
def test_nobody_is_denied_what_it_needs(stack: Stack) -> None:
    """A node leaves and comes back on its disk; then what was denied anywhere is what is known to be dispensable.

    The user ``default`` would be named here if Redis had left transactions out when it loaded the AOF.
    """
    replica = next(node for node in NODES if node != stack.master())
    for server in (*NODES, *SENTINELS):
        stack.client(server).acl_log_reset()
    stack.kill(replica)
    stack.start(replica)
    wait_until(lambda: stack.healthy(replica), 60, f"{replica} is back")
    stack.wait_for_writes()
    for server in (*NODES, *SENTINELS):
        denied = {(_role(stack, entry["username"]), entry["object"]) for entry in stack.client(server).acl_log()}
        assert denied <= EXPECTED_DENIALS, server


def _role(stack: Stack, user: str) -> str:
    return "trader" if user in {trader.id for trader in stack.traders} else user


def test_each_trader_can_be_asked_for_its_own(stack: Stack, environment: dict[str, str]) -> None:
    first, second = stack.traders
    for trader, chosen in ((first, ()), (second, ("--service", second.service))):
        found = json.loads(run_script(environment, "status", *chosen, "--json"))
        assert found["stored"]["trader_id"] == trader.id
        assert found["link"]["state"] == "ready"
        assert "PAPER" in run_script(environment, "positions", *chosen)
    assert "no permissions" in run_script(environment, "positions", "--trader", second.id, expect=2)
    said = refusal(environment, "status", "--service", "trader-3")
    assert 'no trader "trader-3" runs' in said
    assert "trader trader-2" in said


@pytest.mark.timeout(300)
@pytest.mark.long
def test_a_cold_start_needs_no_replay(stack: Stack) -> None:
    """What the disks alone bring back: no link is there to send anything again."""
    for trader in stack.traders:
        stack.stop(trader.service)
    master = stack.master()
    before = _contents(stack, master)
    assert len(before) > 50
    for node in NODES:
        wait_until(lambda node=node: _contents(stack, node) == before, 30, f"{node} has everything")
        wait_until(lambda node=node: _on_disk(stack, node), 30, f"{node} has written everything")
    stack.kill(*NODES)
    stack.start(*NODES)
    wait_until(lambda: all(stack.healthy(node) for node in NODES), 90, "all nodes are back")
    for node in NODES:
        assert _contents(stack, node) == before, node


def _on_disk(stack: Stack, node: str) -> bool:
    info = stack.client(node).info("persistence")
    return not info["aof_buffer_length"] and not info["aof_pending_bio_fsync"]


def _contents(stack: Stack, node: str) -> dict[bytes, Any]:
    """Every key with its value."""
    client = stack.client(node, 10, decode=False)
    read = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"hash": client.hgetall,
        b"stream": client.xrange,
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter(count=1000)}
