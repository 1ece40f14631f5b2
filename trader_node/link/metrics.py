"""The link's state as Prometheus metrics, read at the time of a scrape, so that the hot path counts nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .decisions import Cause
from .latency import Latency

STATES = ("ready", "holding", "draining", "halted")

#: Name, help, and where it stands in the status.
_COUNTERS = (
    ("entries_accepted", "Writes, or transactions of them, accepted from clients.", "accepted"),
    ("entries_acknowledged", "Entries whose clients have an answer.", "acknowledged"),
    ("entries_replayed", "Acknowledged entries sent again because a master lacked them.", "replayed"),
    ("entries_refused", "Entries that Redis refused for good.", "refused"),
    ("entries_told_early", "Entries answered from the journal before they were applied.", "told_early"),
    ("late_errors", "Commands answered from the journal and then applied with an error, or refused.", "late_errors"),
    (
        "entries_forgotten_early",
        "Entries forgotten below their minimum age, because the journal was full; every node had them.",
        "forgotten_early",
    ),
    (
        "markers_restored",
        "Times that the marker was gone from the same master: somebody else deletes keys or flushes.",
        "markers_restored",
    ),
    ("lost_replies", "Entries applied whose answer was lost.", "lost_replies"),
    ("fenced_transactions", "Transactions that the marker's fence aborted.", "fenced"),
    ("handshakes", "Handshakes with a master.", "handshakes"),
    ("failovers", "Changes from one master to another.", "master_changes"),
    ("forced_failovers", "Failovers that the link asked for.", "forced_failovers"),
    ("holds", "Times without a working master.", "holds"),
    ("hold_seconds", "Time without a working master, the present hold included.", "hold_seconds"),
)
_GAUGES: tuple[tuple[str, str, str | Callable[[dict[str, Any]], float]], ...] = (
    ("up", "1 while writes are applied.", lambda status: status["state"] == "ready"),
    ("healthy", "0 once the link needs an operator: halted, or its journal cannot be written.", "healthy"),
    ("held_entries", "Accepted entries not known to be applied.", "unfinished"),
    ("reads_waiting", "Reads not answered yet.", "reads_waiting"),
    ("clients", "Connected clients.", "clients"),
    ("start_time_seconds", "When the link was started, in Unix time.", "started_at"),
    ("journal_bytes", "Bytes of the entries in the journal.", lambda status: status["journal"]["bytes"]),
    ("journal_limit_bytes", "Bound of the journal; clients wait at it.", lambda status: status["journal"]["max_bytes"]),
    ("journal_entries", "Entries in the journal.", lambda status: status["journal"]["entries"]),
    ("journal_oldest_entry_age_seconds", "Age of the oldest entry.", lambda status: status["journal"]["age_seconds"]),
    (
        "journal_writable",
        "0 while the journal cannot be written.",
        lambda status: status["journal"]["writable"],
    ),
)


class LinkCollector(Collector):
    """Turns the status into metrics. No label takes unbounded values: states, causes, and the nodes of one stack."""

    def __init__(self, status: Callable[[], dict[str, Any]], latency: Latency) -> None:
        self._status = status
        self._latency = latency

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        status = self._status()
        for name, text, key in _COUNTERS:
            yield CounterMetricFamily(f"redis_link_{name}", text, value=status[key])
        for name, text, source in _GAUGES:
            value = status[source] if isinstance(source, str) else source(status)
            yield GaugeMetricFamily(f"redis_link_{name}", text, value=float(value))
        yield _one_of("state", "What the link is doing.", "state", STATES, status["state"])
        causes = [cause.value for cause in Cause]
        yield _one_of("halted", "1 for the cause of having stopped.", "cause", causes, status["halt_cause"])
        gaps = CounterMetricFamily(
            "redis_link_gap_entries", "Entries lost or unsure because of LINK_ON_GAP=continue.", labels=["kind"]
        )
        gaps.add_metric(["lost"], status["gap_lost"])
        gaps.add_metric(["unsure"], status["gap_unsure"])
        yield gaps
        masters = GaugeMetricFamily("redis_link_master", "1 for the node that is served as master.", labels=["node"])
        lag = GaugeMetricFamily("redis_link_node_marker_lag_entries", "Entries that a node lacks.", labels=["node"])
        answers = GaugeMetricFamily("redis_link_node_answers", "1 if a node tells its marker.", labels=["node"])
        for node in sorted({*status["markers"], status["master"]} - {""}):
            masters.add_metric([node], float(node == status["master"]))
        for node, seq in status["markers"].items():
            lag.add_metric([node], max(status["applied_seq"] - seq, 0))
            answers.add_metric([node], float(node not in status["silent_nodes"]))
        certificates = GaugeMetricFamily(
            "redis_link_certificate_not_after_seconds",
            "When a certificate expires, in Unix time: our own (client), the authority's (ca), a server's.",
            labels=["certificate"],
        )
        for certificate, end in status["certificates"].items():
            certificates.add_metric([certificate], end)
        yield from (masters, lag, answers, certificates)
        yield HistogramMetricFamily(
            "redis_link_acknowledge_seconds",
            "From accepting an entry to Redis' answer; all entries of a transaction count as long as its oldest.",
            buckets=self._latency.cumulated(),
            sum_value=self._latency.seconds,
        )


def _one_of(name: str, text: str, label: str, values: Iterable[str], current: str) -> Metric:
    family = GaugeMetricFamily(f"redis_link_{name}", text, labels=[label])
    for value in values:
        family.add_metric([value], float(value == current))
    return family
