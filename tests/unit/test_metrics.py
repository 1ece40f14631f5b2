"""What Prometheus scrapes: every documented series is there, and can be parsed."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from trader_node.link.app import Link
from trader_node.link.config import LinkConfig
from trader_node.link.decisions import Cause
from trader_node.link.entries import Write
from trader_node.link.latency import BOUNDS, Latency
from trader_node.link.metrics import STATES, LinkCollector
from trader_node.link.url import parse_redis_url
from trader_node.link.wire import encode_command

A, B = ("10.0.0.1", 6379), ("10.0.0.2", 6379)
DOCUMENTED = {
    *("redis_link_up", "redis_link_healthy", "redis_link_state", "redis_link_halted", "redis_link_master"),
    *("redis_link_entries_accepted_total", "redis_link_entries_acknowledged_total"),
    *("redis_link_entries_replayed_total", "redis_link_entries_refused_total"),
    *("redis_link_entries_forgotten_early_total", "redis_link_entries_told_early_total"),
    *("redis_link_late_errors_total", "redis_link_markers_restored_total", "redis_link_lost_replies_total"),
    *("redis_link_fenced_transactions_total", "redis_link_handshakes_total", "redis_link_failovers_total"),
    *("redis_link_forced_failovers_total", "redis_link_holds_total", "redis_link_hold_seconds_total"),
    *("redis_link_gap_entries_total", "redis_link_held_entries", "redis_link_reads_waiting", "redis_link_clients"),
    *("redis_link_start_time_seconds", "redis_link_journal_bytes", "redis_link_journal_limit_bytes"),
    *("redis_link_journal_entries", "redis_link_journal_oldest_entry_age_seconds", "redis_link_journal_writable"),
    *("redis_link_node_marker_lag_entries", "redis_link_node_answers"),
    "redis_link_certificate_not_after_seconds",
    *("redis_link_acknowledge_seconds_bucket", "redis_link_acknowledge_seconds_count"),
    "redis_link_acknowledge_seconds_sum",
}


@pytest.fixture
def link(tmp_path: Path) -> Link:
    target = parse_redis_url("sentinel://h:1/mymaster")
    config = LinkConfig(target, ("127.0.0.1", 0), "T", "marker", journal_dir=tmp_path, journal_max_bytes=4096)
    return Link(config)


def scrape(link: Link) -> list[Sample]:
    registry = CollectorRegistry()
    registry.register(LinkCollector(link.status, link.sequencer.latency))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return [sample for family in families for sample in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float:
    (found,) = [sample.value for sample in samples if sample.name == name and sample.labels == labels]
    return found


def test_every_documented_series_is_there_and_no_other(link: Link) -> None:
    link.replicas.seen = {A: 0, B: 0}
    link.certificates._servers = {A: 1.8e9}
    names = {sample.name for sample in scrape(link) if not sample.name.endswith("_created")}
    assert names == DOCUMENTED


def test_values_follow_the_link(link: Link) -> None:
    before = scrape(link)
    assert value(before, "redis_link_journal_oldest_entry_age_seconds") == 0
    assert value(before, "redis_link_state", state="holding") == 1
    for _ in range(3):
        link.sequencer.accept(Write(encode_command(b"SET", b"k", b"v"), 1), 1.0)
    link.replicas.seen = {A: 5, B: 3}
    link.replicas.silent = {B}
    link.certificates._servers = {A: 1.8e9}
    link.sequencer._applied = 5
    link.upstream.current = A
    link.sequencer.latency.observe(0.0004, 10)
    samples = scrape(link)
    assert value(samples, "redis_link_entries_accepted_total") == 3
    assert value(samples, "redis_link_journal_entries") == 3
    assert value(samples, "redis_link_journal_bytes") > 0
    assert value(samples, "redis_link_journal_oldest_entry_age_seconds") > 0
    assert value(samples, "redis_link_certificate_not_after_seconds", certificate="10.0.0.1:6379") == 1.8e9
    assert value(samples, "redis_link_master", node="10.0.0.1:6379") == 1
    assert value(samples, "redis_link_master", node="10.0.0.2:6379") == 0
    assert value(samples, "redis_link_node_marker_lag_entries", node="10.0.0.2:6379") == 2
    assert value(samples, "redis_link_node_answers", node="10.0.0.2:6379") == 0
    assert value(samples, "redis_link_acknowledge_seconds_bucket", le="0.0002") == 0
    assert value(samples, "redis_link_acknowledge_seconds_bucket", le="0.0005") == 10
    assert value(samples, "redis_link_acknowledge_seconds_count") == 10
    assert value(samples, "redis_link_hold_seconds_total") > 0


def test_master_that_is_no_known_node_yet_is_shown(link: Link) -> None:
    link.upstream.current = A
    assert value(scrape(link), "redis_link_master", node="10.0.0.1:6379") == 1


@pytest.mark.parametrize("cause", list(Cause))
def test_halt_shows_its_cause(link: Link, cause: Cause) -> None:
    link.sequencer._halt("why", cause)
    samples = scrape(link)
    assert {sample.labels["state"] for sample in samples if sample.name == "redis_link_state"} == set(STATES)
    assert value(samples, "redis_link_state", state="halted") == 1
    assert value(samples, "redis_link_healthy") == 0
    assert [s.labels["cause"] for s in samples if s.name == "redis_link_halted" and s.value == 1] == [cause.value]


def test_journal_that_cannot_be_written_is_unhealthy(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(next_seq: int, **_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(link._file, "flush", full)
    assert not link._before_send()
    samples = scrape(link)
    assert value(samples, "redis_link_journal_writable") == 0
    assert value(samples, "redis_link_healthy") == 0


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (BOUNDS[0], 0), (BOUNDS[0] * 1.01, 1), (BOUNDS[-1], len(BOUNDS) - 1), (99.0, -1)]
)
def test_duration_falls_into_its_bucket(seconds: float, bucket: int) -> None:
    latency = Latency()
    latency.observe(seconds, 2)
    buckets = latency.cumulated()
    index = bucket % len(buckets)
    assert [count for _, count in buckets] == [0.0] * index + [2.0] * (len(buckets) - index)
    assert latency.seconds == 2 * seconds
