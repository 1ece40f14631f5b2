"""Planned work with the operator's commands, while two traders trade: settings, images, disks, more nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from drills.records import compare_trader
from drills.stack import MASTER_NAME, NODES, SENTINELS, Stack, docker
from drills.waiting import wait_until
from tests.stacks import Journal, refusal, run_script
from trader_node.link.discovery import FORGET_AFTER

#: What compose/five.yaml adds.
ADDED = ("redis-4", "sentinel-4", "sentinel-5")
_CLI = ("sh", "/opt/redis-node/cli.sh")


@pytest.fixture
def known(stack: Stack) -> dict[str, Any]:
    """Each trader's record from before the work."""
    return {trader.service: trader.report() for trader in stack.traders}


@pytest.fixture
def started(stack: Stack) -> dict[str, str]:
    """When each container was started, before the work."""
    return stack.start_times()


@pytest.fixture
def settings_of_before(stack: Stack, environment: dict[str, str]) -> Iterator[None]:
    """Take every setting back after the test, one container after another."""
    yield
    # What a test has left broken has no quorum of healthy parts to wait for.
    run_script(environment, "rollout", "--no-build")
    stack.wait_until_well(60)


def check_nothing_lost(stack: Stack, known: Mapping[str, Any]) -> str:
    """Compare each trader's own record with all three nodes, one by one; more orders must be there than before."""
    stack.wait_for_writes()
    found = []
    for trader in stack.traders:
        before = known[trader.service]
        compared = compare_trader(stack, before, trader)
        assert compared.exact, f"{trader.service}: {compared}:\n" + "\n".join(compared.differences[:20])
        assert compared.orders - before["orders"].keys(), f"{trader.service} made no order meanwhile"
        found.append(f"{trader.service}: {compared}")
    return "; ".join(found)


def refused(environment: Mapping[str, str], name: str, *arguments: str) -> list[str]:
    """Run a script that has to fail, and return what it says: an error and what to do, and nothing else."""
    lines = refusal(environment, name, *arguments, seconds=300).splitlines()
    assert lines[0].startswith("error: "), lines
    assert all(line.startswith("       ") for line in lines[1:]), lines
    return lines


def renewed(said: str) -> list[str]:
    """Return the services that a rollout has renewed, in its order, from what it said."""
    return [line.split()[1].rstrip(":") for line in said.splitlines() if ": renewed" in line]


def volume_made(stack: Stack, node: str) -> str:
    """When the volume of a node was made."""
    return docker("volume", "inspect", "--format", "{{.CreatedAt}}", f"{stack.project}_{node}").strip()


def asked(stack: Stack, service: str, *command: str) -> list[str]:
    """Ask a node or a Sentinel that the drills do not know."""
    return stack.execute(service, *_CLI, *command).split("\n")


#: A script, its arguments, and what its one line says.
_WRONG_USES = (
    ("switchover", ("redis-9",), 'there is no node "redis-9"'),
    ("switchover", ("--sentinel", "redis-1"), 'there is no Sentinel "redis-1"'),
    ("rollout", ("nothing",), 'there is no service "nothing"'),
    ("rollout", ("--slowly",), "unknown option: --slowly"),
    ("replace-disk", (), "which node?"),
    ("replace-disk", ("sentinel-1",), 'there is no node "sentinel-1"'),
    ("replace-disk", ("redis-1",), "needs a confirmation"),
    ("scale", ("4", "4"), "4 4 is not a size"),
)


def test_wrong_use_is_one_clear_line_and_changes_nothing(
    stack: Stack, environment: dict[str, str], started: dict[str, str]
) -> None:
    for name, arguments, says in _WRONG_USES:
        assert says in refused(environment, name, *arguments)[0]
    line = refused({**environment, "REDIS_MAXMEMORY": "1mb"}, "rollout", "--no-build")[0]
    assert "REDIS_MAXMEMORY=1mb" in line
    assert "every write would be refused" in line
    assert stack.start_times() == started


def test_dry_run_says_what_would_change_and_changes_nothing(
    stack: Stack, environment: dict[str, str], started: dict[str, str]
) -> None:
    said = run_script({**environment, "REDIS_MAXMEMORY": "400mb"}, "rollout", "--no-build", "--dry-run")
    steps = [line.split() for line in said.splitlines() if "REDIS_MAXMEMORY: 512mb -> 400mb" in line]
    replicas = [node for node in NODES if node != stack.master()]
    assert sorted(step[1] for step in steps[:2]) == replicas, said
    assert steps[2][1:4] == ["switchover,", "then", stack.master()], said
    assert len(steps) == len(NODES), said
    assert stack.start_times() == started


def test_switchover_to_a_node_of_choice(
    stack: Stack, environment: dict[str, str], known: dict[str, Any], started: dict[str, str], journal: Journal
) -> None:
    old = stack.master()
    chosen = next(node for node in reversed(NODES) if node != old)
    said = run_script(environment, "switchover", chosen)
    assert f"{chosen} is the master now, {old} follows it" in said
    assert stack.master() == chosen
    assert stack.role(old) == "slave"
    assert asked(stack, chosen, "CONFIG", "GET", "replica-priority")[1] == "100", "the preference is over"
    assert stack.start_times() == started
    assert f"{chosen} is the master already" in run_script(environment, "switchover", chosen)
    journal.add(f"switchover from {old} to {chosen}: {check_nothing_lost(stack, known)}")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_disk_of_a_replica_is_replaced(
    stack: Stack, environment: dict[str, str], known: dict[str, Any], journal: Journal
) -> None:
    master = stack.master()
    node = next(node for node in NODES if node != master)
    made = volume_made(stack, node)
    said = run_script(environment, "replace-disk", node, "--yes")
    assert f"{node} holds everything that {master} holds" in said
    assert volume_made(stack, node) > made
    assert stack.master() == master
    assert stack.whole()
    journal.add(f"the disk of {node} replaced: {check_nothing_lost(stack, known)}")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_disk_of_the_master_is_replaced_after_a_switchover(
    stack: Stack, environment: dict[str, str], known: dict[str, Any], journal: Journal
) -> None:
    old = stack.master()
    made = volume_made(stack, old)
    said = run_script(environment, "replace-disk", old, "--yes")
    assert f"switchover from {old} to {stack.master()}" in said
    assert volume_made(stack, old) > made
    journal.add(f"the disk of {old}, the master, replaced: {check_nothing_lost(stack, known)}")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_dead_disk_of_the_master_is_replaced_after_the_failover(
    stack: Stack, environment: dict[str, str], known: dict[str, Any], journal: Journal
) -> None:
    old = stack.master()
    stack.kill(old)
    said = run_script(environment, "replace-disk", old, "--yes")
    assert "switchover" not in said, "the Sentinels have promoted another node"
    assert stack.master() != old
    assert stack.whole()
    journal.add(f"the disk of {old}, a dead master, replaced: {check_nothing_lost(stack, known)}")


@pytest.mark.long
def test_disk_is_kept_while_another_copy_is_missing(stack: Stack, environment: dict[str, str]) -> None:
    node, other = (node for node in NODES if node != stack.master())
    made = volume_made(stack, node)
    stack.kill(other)
    line = refused(environment, "replace-disk", node, "--yes")[0]
    assert f"the volume of {node} may hold what no other node holds: {other} does not answer" in line
    assert volume_made(stack, node) == made
    assert stack.running(node)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("settings_of_before")
def test_rollout_of_settings(
    stack: Stack, environment: dict[str, str], known: dict[str, Any], started: dict[str, str], journal: Journal
) -> None:
    changed = {**environment, "REDIS_MAXMEMORY": "400mb", "SENTINEL_DOWN_AFTER_MS": "1300"}
    master = stack.master()
    said = run_script(changed, "rollout", "--no-build")
    order = renewed(said)
    assert order[2] == master, said
    assert sorted(order) == sorted((*NODES, *SENTINELS)), said
    assert f"switchover from {master} to" in said
    for node in NODES:
        assert asked(stack, node, "CONFIG", "GET", "maxmemory")[1] == str(400 * 2**20)
    now = stack.start_times()
    for trader in stack.traders:
        assert now[trader.service] == started[trader.service], "a trader was restarted though nothing of it changed"
    assert "Nothing to do" in run_script(changed, "rollout", "--no-build")
    journal.add(f"rollout of settings: {check_nothing_lost(stack, known)}")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("settings_of_before")
def test_rollout_of_a_traders_settings_restarts_it_once(
    stack: Stack, environment: dict[str, str], known: dict[str, Any], started: dict[str, str], journal: Journal
) -> None:
    """Also if one was renewed while something that it depends on differs: then Compose hashes it otherwise."""
    changed = {**environment, "LINK_FSYNC": "always", "SENTINEL_DOWN_AFTER_MS": "1300"}
    assert "trader: renewed" in run_script(changed, "rollout", "--no-build", "trader")
    first = stack.start_times()["trader"]
    assert first != started["trader"]
    said = run_script(changed, "rollout", "--no-build")
    order = renewed(said)
    assert order == [*SENTINELS, "trader-2"], said
    assert "Nothing to do" in run_script(changed, "rollout", "--no-build")
    assert stack.start_times()["trader"] == first
    journal.add(f"rollout of traders' settings: {check_nothing_lost(stack, known)}")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("settings_of_before")
def test_rollout_stops_at_what_does_not_start_and_continues_later(
    stack: Stack, environment: dict[str, str], known: dict[str, Any], started: dict[str, str], journal: Journal
) -> None:
    """A value that Redis does not take."""
    master = stack.master()
    wrong = {**environment, "REDIS_MIN_REPLICAS": "many"}
    lines = refused(wrong, "rollout", "--no-build")
    assert "stopped:" in lines[0]
    assert "does not start" in lines[0]
    now = stack.start_times()
    touched = [service for service in (*NODES, *SENTINELS) if now[service] != started[service]]
    assert len(touched) == 1, touched
    assert touched[0] != master
    assert f"under way: {touched[0]}" in lines[1]
    assert stack.master() == master
    stack.wait_for_writes()
    said = run_script({**environment, "REDIS_MAXMEMORY": "400mb"}, "rollout", "--no-build")
    order = renewed(said)
    assert order[0] == touched[0], "what is broken comes first"
    journal.add(f"rollout that stopped and continued: {check_nothing_lost(stack, known)}")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_third_replica_and_five_sentinels_and_back(
    stack: Stack, environment: dict[str, str], known: dict[str, Any], started: dict[str, str], journal: Journal
) -> None:
    assert "runs without the nodes of --five" in refused(environment, "up", "--five")[0]
    run_script(environment, "scale", "4", "5", seconds=500)
    now = stack.start_times()
    assert set(ADDED) <= now.keys()
    for trader in stack.traders:
        assert now[trader.service] == started[trader.service], "a trader was restarted"
    assert "has four nodes and five Sentinels" in refused(environment, "up")[0]
    # The drills' library knows three nodes only.
    run_script(environment, "switchover", NODES[0])
    for sentinel in (*SENTINELS, "sentinel-4", "sentinel-5"):
        answer = asked(stack, sentinel, "SENTINEL", "MASTER", MASTER_NAME)
        seen = dict(zip(answer[::2], answer[1::2], strict=False))
        assert (seen["quorum"], seen["num-slaves"], seen["num-other-sentinels"]) == ("3", "3", "4"), sentinel
    journal.add(f"four nodes, five Sentinels: {check_nothing_lost(stack, known)}")
    keys = {node: asked(stack, node, "DBSIZE")[0] for node in (*NODES, "redis-4")}
    assert int(keys["redis-4"]) > 0, keys

    # Two Sentinels are gone, and the master: three of five are enough.
    stack.kill("sentinel-1", "sentinel-2")
    stack.kill(NODES[0])
    survivor = "sentinel-5"

    def promoted() -> bool:
        ip = asked(stack, survivor, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)[0]
        return ip != stack.ip(NODES[0])

    wait_until(promoted, 30, "a promotion by three of five Sentinels")
    stack.start(NODES[0], "sentinel-1", "sentinel-2")

    wait_until(lambda: "needs a confirmation" in refused(environment, "scale", "3", "3")[0], 120, "whole again", 1.0)
    run_script(environment, "scale", "3", "3", "--yes", seconds=500)
    assert not set(ADDED) & stack.containers().keys()
    left = docker("volume", "ls", "--quiet", "--filter", f"name={stack.project}_").split()
    assert not [name for name in left if name.endswith(ADDED)], left
    for sentinel in SENTINELS:
        seen = stack.seen_by(sentinel)
        assert (seen["quorum"], seen["num-slaves"], seen["num-other-sentinels"]) == ("2", "2", "2"), sentinel
    journal.add(f"three nodes, three Sentinels again: {check_nothing_lost(stack, known)}")
    # No entry is kept for the node that is gone: the journal would fill up.
    wait_until(
        lambda: len(stack.link()["markers"]) == len(NODES) and not stack.link()["silent_nodes"],
        2 * FORGET_AFTER,
        "the link forgets redis-4",
        1.0,
    )
