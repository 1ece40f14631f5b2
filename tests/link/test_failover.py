"""A link in front of a cluster on loopback: what its clients and its log see."""

from __future__ import annotations

from drills.appender import Appenders
from drills.ledger import Outcome, Verdict, check
from drills.processes import Cluster, LinkProcess
from drills.waiting import wait_until


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


def test_terminated_link_drains(cluster: Cluster, link: LinkProcess) -> None:
    link.wait_until_ready()
    appenders = Appenders(link.address, link.port)
    appenders.start()
    _traffic(appenders)
    assert appenders.in_flight > 0, "no operation was in flight"
    assert link.terminate() == 0
    assert "drained: every accepted write is applied" in link.log.read_text()
    verdict = _check(cluster, appenders)
    assert verdict.exact, verdict


def test_flush_behind_the_links_back_is_told_and_nothing_is_replayed(cluster: Cluster, link: LinkProcess) -> None:
    link.wait_until_ready()
    appenders = Appenders(link.address, link.port)
    appenders.start()
    _traffic(appenders)
    assert appenders.in_flight > 0, "no operation was in flight"
    # What was applied before is gone, as whoever did this wanted; replaying it would bring it back.
    appenders.ledger.flush_asked()
    cluster.client(cluster.master()).flushall()
    appenders.ledger.flush_answered()
    _traffic(appenders)
    assert "the marker was removed by somebody else" in link.log.read_text()
    assert link.status()["healthy"]
    verdict = _check(cluster, appenders)
    assert verdict.exact, verdict
    assert verdict.indeterminate == 0
    assert verdict.failed == 0
