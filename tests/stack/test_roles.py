"""No node has a fixed role: whatever is restarted, in whatever order, the newest data wins."""

from __future__ import annotations

import threading
import time
from typing import Any

from redis.exceptions import RedisError

from drills.faults.storage import damage_aof
from drills.stack import NODES, SENTINELS, Stack, docker
from drills.waiting import wait_until
from tests.stacks import Journal

from .checks import check_nothing_lost, fail_over, others, wait_until_replica


class RoleSampler:
    """Asks a node without pause for its role, and tries to write to it, as a client with an old address would."""

    def __init__(self, stack: Stack, node: str) -> None:
        self._client = stack.client(node, 0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.roles: list[str] = []
        self.accepted = 0

    def __enter__(self) -> RoleSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.roles.append(str(self._client.role()[0]))
                self._client.set("written-to-a-stale-master", 1)
                self.accepted += 1
            except (RedisError, OSError):
                time.sleep(0.002)


def test_restarted_old_master_never_serves_as_master(stack: Stack, journal: Journal) -> None:
    fault, _, known = fail_over(stack)
    with RoleSampler(stack, fault.master) as sampler:
        fault.heal()
        wait_until_replica(stack, fault.master)
        wait_until(lambda: len(sampler.roles) > 100, 20, "samples of the role")
    assert set(sampler.roles) == {"slave"}
    assert sampler.accepted == 0
    journal.add(f"a restarted old master is a replica at once: {check_nothing_lost(stack, known)}")


def test_old_master_restarted_at_once_does_not_serve_beside_the_new_one(stack: Stack) -> None:
    """The Sentinels have not noticed yet and still name the node that comes back."""
    old = stack.master()
    before = stack.report()
    stack.kill(old)
    stack.start(old)
    wait_until(stack.whole, 60, "one master with two replicas in sync")
    masters = [node for node in NODES if stack.role(node) == "master"]
    assert masters == [stack.master()]
    stack.wait_for_writes()
    check_nothing_lost(stack, before)


def test_down_and_up_after_a_failover_keeps_the_newest_data(stack: Stack, journal: Journal) -> None:
    fault, promotion, _ = fail_over(stack)
    new = promotion.master
    fault.heal()
    wait_until_replica(stack, fault.master)
    stack.wait_for_writes_on(new)
    own = stack.report("--quiesce")
    stack.compose("down")
    stack.compose("up", "--detach", "--wait", "--no-build")
    wait_until(stack.whole, 30, "one master with two replicas in sync")
    assert stack.master() == new, "the master is what the Sentinels remember, not a fixed node"
    stack.wait_for_writes()
    journal.add(f"down and up after a failover: {check_nothing_lost(stack, own)}")


def test_sentinels_restart_after_a_failover(stack: Stack, journal: Journal) -> None:
    fault, promotion, _ = fail_over(stack)
    stack.kill(*SENTINELS)
    stack.start(*SENTINELS)
    wait_until(lambda: all(stack.client(sentinel).ping() for sentinel in SENTINELS), 20, "Sentinels answer")
    assert stack.master() == promotion.master, "the Sentinels forgot the failover"
    # And they can do the next one.
    fault.heal()
    wait_until_replica(stack, fault.master)
    wait_until(stack.whole, 60, "one master with two replicas in sync")
    fault, _, known = fail_over(stack)
    fault.heal()
    stack.heal()
    journal.add(f"kill after all Sentinels restarted: {check_nothing_lost(stack, known)}")


def test_two_lost_disks_do_not_empty_the_third(stack: Stack) -> None:
    master = stack.master()
    own = stack.report("--quiesce")
    stack.report("--resume")
    survivor, lost = others(master)
    _lose_disk(stack, master)
    _lose_disk(stack, lost)
    stack.compose("up", "--detach", "--no-build", master, lost)
    wait_until(lambda: stack.master() == survivor, 60, "the node that holds the data is promoted")
    wait_until(stack.whole, 60, "one master with two replicas in sync")
    stack.wait_for_writes()
    check_nothing_lost(stack, own)


def _lose_disk(stack: Stack, node: str) -> None:
    stack.compose("rm", "--force", "--stop", node)
    docker("volume", "rm", f"{stack.project}_{node}")


def test_damaged_replica_keeps_its_disk_until_there_is_a_master_to_copy(stack: Stack, journal: Journal) -> None:
    damaged = others(stack.master())[0]
    known = _kill_all(stack)
    _, size = damage_aof(stack, damaged, 1000)
    stack.start(damaged)
    wait_until(lambda: "DAMAGED, and there is nothing yet" in stack.logs(damaged), 30, "it waits for a master")
    assert _aof_bytes(stack, damaged) >= size
    stack.start(*others(damaged))
    wait_until(lambda: "is kept as" in stack.logs(damaged), 60, "it puts the damaged AOF aside")
    wait_until(stack.whole, 60, "one master with two replicas in sync")
    stack.wait_for_writes()
    journal.add(f"a replica with a damaged AOF copies everything: {check_nothing_lost(stack, known)}")


def test_damaged_master_drops_nothing_by_itself(stack: Stack, journal: Journal) -> None:
    master = stack.master()
    known = _kill_all(stack)
    _, size = damage_aof(stack, master, 1000)
    stack.start(master)
    # Redis says so and ends, and Docker starts it again.
    wait_until(lambda: stack.logs(master, 500).count("Bad file format") >= 2, 30, "Redis does not start on it")
    assert _aof_bytes(stack, master) >= size
    stack.start(*others(master))
    wait_until(stack.whole, 60, "one master with two replicas in sync")
    assert stack.master() != master
    stack.wait_for_writes()
    journal.add(f"a master with a damaged AOF leaves the field: {check_nothing_lost(stack, known)}")


def _kill_all(stack: Stack) -> dict[str, Any]:
    known = stack.report("--quiesce")
    stack.report("--resume")
    stack.kill(*NODES)
    return known


def _aof_bytes(stack: Stack, node: str) -> int:
    return int(stack.on_volume(node, "cat /data/appendonlydir/*.incr.aof | wc -c"))
