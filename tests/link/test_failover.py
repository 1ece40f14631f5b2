"""Live traffic through real faults: every acknowledged append is in Redis exactly once and in order."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from drills.appender import Appenders
from drills.ledger import Outcome, Verdict, check
from drills.processes import Cluster, freeze, thaw
from drills.waiting import wait_until

from .conftest import RunningLink


def _traffic(appenders: Appenders, operations: int = 300) -> None:
    goal = appenders.ledger.count(Outcome.OK) + operations
    wait_until(lambda: appenders.ledger.count(Outcome.OK) >= goal, 20, "traffic", 0.02)


def _check(cluster: Cluster, appenders: Appenders) -> Verdict:
    ledger = appenders.stop()
    master = cluster.client(cluster.master())
    found = {key: [int(value) for value in master.lrange(key, 0, -1)] for key in master.scan_iter("appender-*")}
    verdict = check(ledger, found)
    print(f"{verdict}; longest stall {ledger.longest_stall:.2f} s")
    return verdict


def _kill(cluster: Cluster, master: int) -> None:
    cluster.nodes[master].kill()
    cluster.wait_for_other_master(master)
    cluster.nodes[master].start()


def _freeze(cluster: Cluster, master: int) -> None:
    freeze(cluster.nodes[master])
    cluster.wait_for_other_master(master)
    thaw(cluster.nodes[master])


def _freeze_briefly(cluster: Cluster, master: int) -> None:
    # Long enough for the link to give up the connection and short enough that nobody is promoted: the bytes that
    # wait at the frozen master run after the link is back.
    for sentinel in cluster.sentinels.values():
        freeze(sentinel)
    freeze(cluster.nodes[master])
    time.sleep(1.5)
    thaw(cluster.nodes[master])
    for sentinel in cluster.sentinels.values():
        thaw(sentinel)


def _restart(cluster: Cluster, master: int) -> None:
    cluster.nodes[master].kill()
    cluster.nodes[master].start()


FAULTS = {"kill": _kill, "freeze": _freeze, "freeze briefly": _freeze_briefly, "instant restart": _restart}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_append_is_lost_doubled_or_reordered(cluster: Cluster, link: RunningLink, fault: str) -> None:
    appenders = Appenders("127.0.0.1", link.port)
    wait_until(lambda: _listening(link), 20, "the link listens", 0.02)
    appenders.start()
    for _ in range(2):
        _traffic(appenders)
        assert appenders.in_flight > 0, "no operation was in flight"
        master = cluster.master()
        FAULTS[fault](cluster, master)
        _traffic(appenders)
        cluster.wait_until_whole()
    verdict = _check(cluster, appenders)
    assert verdict.exact, verdict
    assert verdict.indeterminate == 0, "the link broke a client's connection"
    assert verdict.failed == 0


def test_killed_link_replays_what_is_missing(cluster: Cluster, link: RunningLink) -> None:
    appenders = Appenders("127.0.0.1", link.port)
    wait_until(lambda: _listening(link), 20, "the link listens", 0.02)
    appenders.start()
    for _ in range(3):
        _traffic(appenders)
        link.kill()
        link.start()
        wait_until(lambda: _listening(link), 20, "the link listens", 0.02)
    master = cluster.master()
    _traffic(appenders)
    cluster.nodes[master].kill()
    link.kill()
    link.start()
    cluster.wait_for_other_master(master)
    _traffic(appenders)
    verdict = _check(cluster, appenders)
    assert verdict.exact, verdict


def _listening(link: RunningLink) -> bool:
    return "listening on" in link.log.read_text()


def test_terminated_link_drains(cluster: Cluster, link: RunningLink, tmp_path: Path) -> None:
    wait_until(lambda: _listening(link), 20, "the link listens", 0.02)
    appenders = Appenders("127.0.0.1", link.port)
    appenders.start()
    _traffic(appenders)
    assert link.terminate() == 0
    assert "drained: every accepted write is applied" in link.log.read_text()
    verdict = _check(cluster, appenders)
    assert verdict.exact, verdict
