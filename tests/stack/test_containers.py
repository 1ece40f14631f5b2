"""How the containers run: what an operator would check before letting them near a server."""

from __future__ import annotations

from typing import Any

import pytest

from drills.stack import NODES, SENTINELS, SERVICES, Stack, docker
from drills.waiting import wait_until


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def container(running_stack: Stack, service: str) -> dict[str, Any]:
    return running_stack.inspect_container(service)


def test_ports_are_published_on_loopback_only(container: dict[str, Any]) -> None:
    published = [binding for bindings in container["NetworkSettings"]["Ports"].values() for binding in bindings or []]
    assert {binding["HostIp"] for binding in published} <= {"127.0.0.1"}


def test_no_process_runs_as_root(running_stack: Stack, service: str) -> None:
    lines = docker("top", running_stack.container(service), "-eo", "pid,uid,args").splitlines()[1:]
    processes = [line.split(None, 2) for line in lines]
    assert processes
    assert all(uid != "0" for _, uid, _ in processes), processes


def test_limits(container: dict[str, Any]) -> None:
    host = container["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert host["LogConfig"]["Config"]["max-size"]
    assert not host["Privileged"]


def test_healthcheck_of_a_replica_sees_a_link_that_is_down(stack: Stack) -> None:
    """A replica that does not follow the master is not healthy, though its process is."""
    master = stack.master()
    replica = next(node for node in NODES if node != master)
    # Without Sentinels nobody mends it within a second.
    stack.kill(*SENTINELS)
    stack.client(replica).replicaof(stack.ip("trader"), 1)
    wait_until(lambda: not stack.healthy(replica), 60, "the replica is unhealthy")
    stack.start(*SENTINELS)
    wait_until(lambda: stack.healthy(replica), 60, "the replica is healthy again")


def test_healthcheck_of_the_trader_sees_a_hanging_node(stack: Stack) -> None:
    pid = stack.report()["pid"]
    _signal(stack, pid, "SIGSTOP")
    try:
        wait_until(lambda: not stack.healthy("trader"), 60, "the trader is unhealthy")
    finally:
        _signal(stack, pid, "SIGCONT")
    wait_until(lambda: stack.healthy("trader"), 60, "the trader is healthy again")


def test_healthcheck_of_the_trader_sees_a_hanging_link(stack: Stack) -> None:
    """The node trades on without it, and nothing is stored."""
    pid = stack.link()["pid"]
    _signal(stack, pid, "SIGSTOP")
    try:
        wait_until(lambda: not stack.healthy("trader"), 60, "the trader is unhealthy")
    finally:
        _signal(stack, pid, "SIGCONT")
    wait_until(lambda: stack.healthy("trader"), 60, "the trader is healthy again")


def test_healthcheck_of_a_sentinel_needs_a_quorum(stack: Stack) -> None:
    stack.kill("sentinel-1", "sentinel-2")
    wait_until(lambda: not stack.healthy("sentinel-3"), 60, "the last Sentinel is unhealthy")


def _signal(stack: Stack, pid: int, name: str) -> None:
    stack.execute("trader", "python", "-c", f"import os, signal; os.kill({pid}, signal.{name})")
