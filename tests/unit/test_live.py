"""What ./scripts/status --watch draws, from states that were made up."""

from __future__ import annotations

import copy
import io
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from rich.console import Console

from trader_node import survey as survey_module
from trader_node.live import Sample, curve, rates, render_live
from trader_node.status import with_interval

M, R1, R2 = "10.0.0.11:6379", "10.0.0.12:6379", "10.0.0.13:6379"


def node(address: str, role: str, **more: Any) -> dict[str, Any]:
    common = {"address": address, "expected": role, "role": role, "offset": 1000, "commands": 100}
    sizes = {"memory_bytes": 20_000_000, "memory_limit_bytes": 100_000_000, "aof_bytes": 3_400_000, "aof_ok": True}
    kind = {"replicas": 2} if role == "master" else {"link": "up", "last_io_seconds": 0, "lag_bytes": 0}
    return common | sizes | kind | more


def state(**more: Any) -> dict[str, Any]:
    link = {
        "state": "ready",
        "accepted": 1000,
        "unfinished": 3,
        "replayed": 12,
        "refused": 0,
        "master_changes": 1,
        "hold_seconds": 2.0,
        "gap_lost": 0,
        "gap_unsure": 0,
        "applied_seq": 500,
        "markers": {M: 500, R1: 498, R2: 500},
        "journal": {"bytes": 10, "max_bytes": 100, "writable": True},
    }
    found = {
        "target": "sentinel://s/mymaster",
        "master": M,
        "sentinels": {
            "members": [
                {"address": f"s{n}:26379", "master": M, "config_epoch": 0, "quorum": "OK 3 usable Sentinels"}
                for n in (1, 2, 3)
            ],
            "quorum_ok": 3,
            "known": 3,
        },
        "nodes": [node(M, "master"), node(R1, "replica", lag_bytes=77), node(R2, "replica")],
        "stored": None,
        "node": {"state": "RUNNING", "positions_open": 21},
        "link": link,
        "alerts": None,
        "problems": [],
    }
    return copy.deepcopy(found) | more


def drawn(*history: Sample, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render_live(history))
    return console.export_text()


def test_all_is_well_on_one_screen() -> None:
    text = drawn(Sample(0.0, state()))
    for words in (
        M,
        "2 of 2",
        "3 of 3",
        "ready",
        "RUNNING, 21 positions",
        "20%",
        "3.4",
        "77",
        "link up",
        "10%",
        "all well",
    ):
        assert words in text, text
    assert len(text.splitlines()) <= 24, "it has to fit a small terminal"


def test_rates_come_from_the_samples_before() -> None:
    earlier, later = state(), state()
    later["link"]["accepted"] += 40
    later["link"]["hold_seconds"] += 0.5
    later["nodes"][0]["commands"] += 300
    text = drawn(Sample(10.0, earlier), Sample(12.0, later))
    (writes,) = [line for line in text.splitlines() if "writes/s" in line]
    assert " 20 " in writes
    (holding,) = [line for line in text.splitlines() if "holding" in line]
    assert "25%" in holding
    (master,) = [line for line in text.splitlines() if "replicas: 2" in line]
    assert " 150 " in master


def test_a_counter_that_began_anew_or_is_unknown_is_a_gap() -> None:
    samples = [Sample(float(n), {"n": value}) for n, value in enumerate((1, 5, 2, None, 7, 8))]
    assert rates(samples, lambda found: found["n"]) == [4.0, None, None, None, 1.0]


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([0, 0], "▁▁"), ([0.0, 3.5, 7.0], "▁▅█"), ([7, None, 7], "█ █"), (list(range(9)), "▅▅▆▇█")],
)
def test_a_curve(values: list[float | None], line: str) -> None:
    assert curve(values, width=5) == line


def test_an_outage_is_seen_and_nothing_is_needed_that_is_down() -> None:
    down = {"address": M, "expected": "master", "error": "Connection refused"}
    found = state(
        master=None,
        nodes=[down],
        node=None,
        problems=["master 10.0.0.11:6379: [Errno 111] Connection refused"],
        alerts=[
            {
                "name": "RedisNoMaster",
                "severity": "critical",
                "summary": "No Redis node is master [really]",
                "since": "2026-11-25T03:04:05.123Z",
            }
        ],
    )
    found["link"] |= {"state": "holding", "journal": {"bytes": 70, "max_bytes": 100, "writable": True}}
    found["sentinels"]["members"][0] = {"address": "s1:26379", "error": "Timeout"}
    text = drawn(Sample(0.0, found))
    for words in ("none", "holding", "70%", "Connection refused", "RedisNoMaster", "[really]", "03:04:05", "Timeout"):
        assert words in text, text
    assert "all well" not in text


@pytest.mark.parametrize("gone", ["link", "node", "sentinels"])
def test_what_is_not_visible_is_left_out(gone: str) -> None:
    assert M in drawn(Sample(0.0, state(**{gone: None})), Sample(1.0, state(**{gone: None})))


def test_alerts_come_from_prometheus_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {"alertname": "LinkHolding", "severity": "critical"}
    alert = {
        "labels": labels,
        "annotations": {"summary": "Holds."},
        "state": "firing",
        "activeAt": "2026-11-25T03:04:05Z",
    }
    pending = alert | {"state": "pending"}

    class Prometheus(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": {"alerts": [alert, pending]}}).encode())

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Prometheus)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PROMETHEUS_ADDRESS", f"127.0.0.1:{server.server_port}")
    expected = {"name": "LinkHolding", "severity": "critical", "summary": "Holds.", "since": "2026-11-25T03:04:05Z"}
    assert survey_module._alerts() == [expected]
    server.shutdown()
    server.server_close()
    assert survey_module._alerts() is None, "it does not answer"
    monkeypatch.delenv("PROMETHEUS_ADDRESS")
    assert survey_module._alerts() is None


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], []),
        (["--watch"], ["--watch", "1.0"]),
        (["--watch", "3"], ["--watch", "3"]),
        (["--watch", "--json"], ["--watch", "1.0", "--json"]),
        (["--json"], ["--json"]),
        (["--watch=2"], ["--watch=2"]),
    ],
)
def test_watch_has_a_default_interval(given: list[str], meant: list[str]) -> None:
    assert with_interval(given) == meant
