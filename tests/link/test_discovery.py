"""How long writes stand still when a master dies or freezes: medians over several faults, with every write compared.

The bound is that of the product: what the Sentinels need to notice (down-after), and 0.6 s.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drills.processes import Cluster, LinkProcess, freeze, thaw
from drills.stall import Pulse
from drills.waiting import wait_until

from .conftest import events, status

StartLink = Callable[..., LinkProcess]
DOWN_AFTER = 1.0
BOUND = DOWN_AFTER + 0.6


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "cluster", down_after_ms=int(DOWN_AFTER * 1000))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _kill(cluster: Cluster, master: int) -> None:
    cluster.nodes[master].kill()


def _freeze(cluster: Cluster, master: int) -> None:
    freeze(cluster.nodes[master])


def _bring_back(cluster: Cluster, old: int, new: int) -> None:
    if cluster.nodes[old].running:
        thaw(cluster.nodes[old])
    else:
        cluster.nodes[old].start()
    # Rather than wait until a Sentinel has noticed that it is no master any more.
    wait_until(lambda: cluster.client(old).replicaof("127.0.0.1", new), 20, "REPLICAOF taken")
    cluster.wait_until_settled()


def _stalls(
    cluster: Cluster, link: LinkProcess, fault: Callable[[Cluster, int], None], faults: int, pause: float = 0.0
) -> list[float]:
    """Return the seconds from each fault to the first write behind it; every write is there once and in order."""
    pulse = Pulse(link.port)
    pulse.start()
    stalls: list[float] = []
    due_at = 0.0
    for _ in range(faults):
        pulse.beating(50)
        wait_until(lambda due_at=due_at: time.monotonic() >= due_at, pause + 1, "the pause is over")
        master = cluster.master()
        faulted_at = time.monotonic()
        due_at = faulted_at + pause
        fault(cluster, master)
        stalls.append(pulse.stall_behind(faulted_at))
        _bring_back(cluster, master, cluster.wait_for_other_master(master))
    count = pulse.stop()
    kept = cluster.client(cluster.master()).lrange(pulse.key, 0, -1)
    assert [int(value) for value in kept] == list(range(count))
    print(f"{fault.__name__}: median {statistics.median(stalls):.2f} s of {sorted(round(s, 2) for s in stalls)}")
    return stalls


@pytest.mark.parametrize("fault", [_kill, _freeze])
def test_writes_go_on_soon_after_the_sentinels_could_notice(
    cluster: Cluster, start_link: StartLink, fault: Callable[[Cluster, int], None]
) -> None:
    link = start_link(cluster.url)
    stalls = _stalls(cluster, link, fault, faults=5)
    assert statistics.median(stalls) <= BOUND, stalls
    assert min(stalls) > DOWN_AFTER / 2, "the Sentinels cannot have noticed: was it a failover at all?"
    assert len(events(link, "failover")) >= 5


def test_forced_failover_does_not_wait_for_the_sentinels_to_be_sure(cluster: Cluster, start_link: StartLink) -> None:
    link = start_link(cluster.url, LINK_FORCE_FAILOVER="true")
    stalls = _stalls(cluster, link, _kill, faults=3, pause=10.2)
    assert statistics.median(stalls) < 0.5, stalls
    assert status(link)["forced_failovers"] == 3
    assert {line["answer"] for line in events(link, "forced_failover")} == {"OK"}


def test_forced_failover_is_not_asked_for_without_a_quorum(cluster: Cluster, start_link: StartLink) -> None:
    link = start_link(cluster.url, LINK_FORCE_FAILOVER="true")
    pulse = Pulse(link.port)
    pulse.start()
    pulse.beating()
    others = cluster.sentinel_ports[1:]
    for port in others:
        cluster.sentinels[port].kill()
    killed = cluster.master()
    cluster.nodes[killed].kill()
    wait_until(lambda: len(events(link, "holding")) >= 2, 20, "the link goes on looking for a master")
    assert events(link, "forced_failover") == []
    assert status(link)["forced_failovers"] == 0
    for port in others:
        cluster.sentinels[port].start()
    cluster.wait_for_other_master(killed)
    pulse.beating()
    pulse.stop()
