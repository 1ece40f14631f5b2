"""Observability on the staging template: all is scraped, every query has data, an alert arrives and resolves."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from drills.stack import Stack, docker
from drills.waiting import wait_until
from tests.stacks import ROOT

TARGETS = {
    *(f"redis/redis-{number}" for number in (1, 2, 3)),
    *(f"sentinel/sentinel-{number}" for number in (1, 2, 3)),
    *("link/trader", "link/trader-2"),
    *("redis-exporter/redis-exporter", "alertmanager/alertmanager", "prometheus/prometheus"),
}
DASHBOARD = ROOT / "observability/grafana/dashboards/redis-ha.json"
#: Words of a query that name no metric.
_WORDS = {"and", "or", "unless", "on", "by", "ignoring", "group_right", "group_left", "bool", "inf", "nan"}


@pytest.fixture
def prometheus(stack: Stack) -> str:
    return f"{address(stack, 'prometheus')}:9090"


def address(stack: Stack, service: str) -> str:
    (network,) = stack.inspect_container(service)["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def get(url: str) -> Any:
    with urllib.request.urlopen(f"http://{url}", timeout=5) as response:
        return json.load(response)


def code(url: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{url}", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def metrics_of(expression: str) -> set[str]:
    """Return the names of the metrics that a query reads."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|'[^']*'", " ", expression)
    bare = re.sub(r"\b(by|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    return {name for name in re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", bare) if name not in _WORDS}


def test_names_of_metrics_are_read_from_queries() -> None:
    query = (
        'histogram_quantile(0.9, sum by (a, le) (rate(x_bucket{le="b"}[5m]))) > on (c) group_right () y:z / 2 and up'
    )
    assert metrics_of(query) == {"x_bucket", "y:z", "up"}


def test_every_node_sentinel_and_link_is_scraped(stack: Stack, prometheus: str) -> None:
    def states() -> dict[str, str]:
        targets = get(f"{prometheus}/api/v1/targets")["data"]["activeTargets"]
        return {f"{t['labels']['job']}/{t['labels']['instance']}": t["lastError"] or t["health"] for t in targets}

    wait_until(lambda: set(states().values()) == {"up"}, 20, "all targets are up")
    assert set(states()) == TARGETS
    # The exporter answers even if a server refuses it: its login and its certificate were accepted everywhere.
    servers = get(f"{prometheus}/api/v1/query?query=redis_up")["data"]["result"]
    assert {s["metric"]["instance"] for s in servers if s["value"][1] == "1"} == {
        name.split("/")[1] for name in TARGETS if name.startswith(("redis/", "sentinel/"))
    }


def test_every_metric_of_rules_and_dashboard_exists(stack: Stack, prometheus: str) -> None:
    groups = get(f"{prometheus}/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] not in ("ok", "unknown")] == []
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [rule["query"] for rule in rules] + [target["expr"] for p in panels for target in p.get("targets", [])]
    assert len(queries) > 50
    # Prometheus' own, there while something fires.
    wanted = set().union(*map(metrics_of, queries)) - {"ALERTS"}

    def missing() -> set[str]:
        return wanted - set(get(f"{prometheus}/api/v1/label/__name__/values")["data"])

    # Rates need two scrapes.
    wait_until(lambda: not missing(), 30, "every metric exists")


def test_an_alert_fires_arrives_and_resolves(stack: Stack, prometheus: str) -> None:
    def firing() -> set[str]:
        alerts = get(f"{prometheus}/api/v1/alerts")["data"]["alerts"]
        return {a["labels"]["instance"] for a in alerts if a["state"] == "firing" and _is_ours(a)}

    def arrived() -> set[str]:
        alerts = get(f"{address(stack, 'alertmanager')}:9093/api/v2/alerts?active=true")
        return {alert["labels"]["instance"] for alert in alerts if _is_ours(alert)}

    wait_until(lambda: not firing(), 30, "nothing is left of earlier tests")
    stack.stop("sentinel-3")
    wait_until(lambda: "sentinel-3" in firing(), 45, "Prometheus fires")
    wait_until(lambda: "sentinel-3" in arrived(), 10, "Alertmanager has it")
    # It exits with 1, because something is wrong.
    survey = json.loads(stack.execute("trader", "sh", "-c", "python -m trader_node.status --json || true"))
    assert "SentinelNotAnswering" in [alert["name"] for alert in survey["alerts"]]
    stack.start("sentinel-3")
    wait_until(lambda: not firing(), 30, "Prometheus resolves it")
    wait_until(lambda: not arrived(), 30, "Alertmanager resolves it")


def _is_ours(alert: dict[str, Any]) -> bool:
    return bool(alert["labels"]["alertname"] == "SentinelNotAnswering")


def test_the_exporters_password_shows_nowhere(stack: Stack, secrets_dir: Path) -> None:
    password = (secrets_dir / "passwords/metrics").read_text().strip()
    assert password
    shown = docker("inspect", stack.container("redis-exporter")) + docker("top", stack.container("redis-exporter"))
    shown += stack.execute(
        "redis-exporter", "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'"
    )
    shown += stack.logs("redis-exporter", 1000)
    assert "--redis.password-file=/tmp/passwords.json" in shown
    assert password not in shown


def test_of_the_link_only_the_metrics_are_reachable(stack: Stack) -> None:
    for trader in ("trader", "trader-2"):
        port = f"{address(stack, trader)}:9125"
        assert code(f"{port}/metrics") == 200
        assert [code(f"{port}/{path}") for path in ("status", "healthz", "")] == [404, 404, 404]
    published = [
        (service, bound["HostIp"])
        for service, container in stack.containers().items()
        for ports in (container["NetworkSettings"]["Ports"] or {}).values()
        for bound in ports or []
    ]
    assert sorted(published) == [("alertmanager", "127.0.0.1"), ("prometheus", "127.0.0.1")]


def test_the_observers_are_bounded_and_may_write_nothing(stack: Stack) -> None:
    for service in ("prometheus", "alertmanager", "redis-exporter"):
        found = stack.inspect_container(service)
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert found["Config"]["User"] == "10003:10003", service
