"""The Grafana dashboard as code: prints the JSON that is kept in ``dashboards/redis-ha.json``.

Built with Grafana's own SDK, which is generated from the schema of its dashboards: what it builds, Grafana loads.
``--rules`` prints every query as a recording rule instead, for promtool to parse.
"""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

UID = "nautilus-redis-ha"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_GOOD, _WARN, _BAD = "green", "yellow", "red"
#: A quarter, a third and half of the page's 24 columns.
_QUARTER, _THIRD, _HALF, _FULL = 6, 8, 12, 24

Steps = list[tuple[float | None, str]]


def build() -> dashboard.Dashboard:
    """Return the dashboard's builder."""
    page = (
        dashboard.Dashboard("Redis that never loses a position")
        .uid(UID)
        .tags(["redis", "nautilus"])
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    numbers = itertools.count(1)
    for title, panels in (("Now", _now()), ("Writes", _writes()), ("Redis and Sentinel", _redis())):
        page = page.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels:
            page = page.with_panel(panel.id(next(numbers)))
    return page


def _now() -> list[Any]:
    return [
        _stat("Masters", "redis:masters:count", [(None, _BAD), (1, _GOOD), (2, _BAD)]),
        _stat("Replicas following", "redis:replicas_connected:count", [(None, _BAD), (1, _WARN), (2, _GOOD)]),
        _stat(
            "Sentinels that see a quorum", "redis:sentinels_with_quorum:count", [(None, _BAD), (2, _WARN), (3, _GOOD)]
        ),
        _stat("Entries lost", "sum(redis_link_gap_entries_total)", [(None, _GOOD), (1, _BAD)]),
        _timeline("Master", 'max by (instance) (redis_instance_info{role="master"})', "{{instance}}", {"1": "master"}),
        _timeline(
            "Links",
            "redis_link_state{state='holding'} + ignoring (state) 2 * redis_link_state{state='halted'}",
            "{{instance}}",
            {"0": "ready", "1": "holding", "2": "halted"},
        ),
        (
            table.Panel()
            .title("Alerts")
            .datasource(_SOURCE)
            .height(7)
            .span(_FULL)
            .no_value("none")
            .with_target(_query('ALERTS{alertstate="firing"}', "").instant().format(PromQueryFormat.TABLE))
            .with_transformation(
                DataTransformerConfig(
                    id_val="organize", options={"excludeByName": {"Time": True, "Value": True, "__name__": True}}
                )
            )
        ),
    ]


def _writes() -> list[Any]:
    return [
        _series("Writes accepted", "ops", (("instance:redis_link_entries_accepted:rate1m", "{{instance}}"),)),
        _series(
            "From accepting a write to Redis' answer",
            "s",
            (
                ("instance:redis_link_acknowledge_seconds:p99_5m", "{{instance}} p99"),
                (
                    "histogram_quantile(0.5, sum by (instance, le) (rate(redis_link_acknowledge_seconds_bucket[5m])))",
                    "{{instance}} p50",
                ),
            ),
        ),
        _series("Journal", "percentunit", (("instance:redis_link_journal:ratio", "{{instance}}"),), most=1.0),
        _series("Accepted, not known to be applied", "short", (("redis_link_held_entries", "{{instance}}"),)),
        _series(
            "Time without a working master",
            "percentunit",
            (("rate(redis_link_hold_seconds_total[1m])", "{{instance}}"),),
            most=1.0,
        ),
        _series(
            "Sent again after a failover, refused",
            "short",
            (
                ("increase(redis_link_entries_replayed_total[5m])", "{{instance}} sent again"),
                ("increase(redis_link_entries_refused_total[5m])", "{{instance}} refused"),
            ),
        ),
    ]


def _redis() -> list[Any]:
    return [
        _series("Replicas behind the master", "bytes", (("slave_ip:redis_replica_lag_bytes:max", "{{slave_ip}}"),)),
        _series(
            "Entries that a node lacks", "short", (("redis_link_node_marker_lag_entries", "{{node}} ({{instance}})"),)
        ),
        _series("Share of maxmemory", "percentunit", (("instance:redis_memory_used:ratio", "{{instance}}"),), most=1.0),
        _series("Commands", "ops", (("instance:redis_commands:rate1m", "{{instance}}"),)),
        _series("AOF", "bytes", (("redis_aof_current_size_bytes", "{{instance}}"),)),
        _series(
            "Certificates end in",
            "s",
            (("redis_link_certificate_not_after_seconds - time()", "{{certificate}} ({{instance}})"),),
        ),
    ]


def _stat(title: str, expr: str, steps: Steps) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .datasource(_SOURCE)
        .height(4)
        .span(_QUARTER)
        .thresholds(_thresholds(steps))
        .color_mode(common_models.BigValueColorMode.BACKGROUND)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(expr, ""))
    )


def _timeline(title: str, expr: str, legend: str, words: dict[str, str]) -> statetimeline.Panel:
    colours = [_GOOD, _WARN, _BAD]
    mapping = ValueMap(
        options={
            value: ValueMappingResult(text=word, color=colour, index=index)
            for index, ((value, word), colour) in enumerate(zip(words.items(), colours, strict=False))
        },
    )
    return (
        statetimeline.Panel()
        .title(title)
        .datasource(_SOURCE)
        .height(6)
        .span(_HALF)
        .mappings([mapping])
        .thresholds(_thresholds([(None, _GOOD)]))
        .with_target(_query(expr, legend))
    )


def _series(title: str, unit: str, queries: tuple[tuple[str, str], ...], most: float | None = None) -> timeseries.Panel:
    panel = timeseries.Panel().title(title).datasource(_SOURCE).height(7).span(_THIRD).unit(unit).min(0)
    if most is not None:
        panel = panel.max(most)
    for (expr, legend), ref in zip(queries, "ABC", strict=False):
        panel = panel.with_target(_query(expr, legend).ref_id(ref))
    return panel


def _query(expr: str, legend: str) -> Dataquery:
    return Dataquery().expr(expr).legend_format(legend).ref_id("A")


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=colour) for value, colour in steps])
    )


def as_json() -> str:
    """Return the file that Grafana loads."""
    return JSONEncoder(sort_keys=True, indent=2).encode(build().build()) + "\n"


def expressions(page: dict[str, Any]) -> list[str]:
    """Return all queries of a dashboard's JSON."""
    return [target["expr"] for panel in page["panels"] for target in panel.get("targets", [])]


def as_rules() -> str:
    """Return the queries as recording rules; JSON is YAML."""
    rules = [
        {"record": f"dashboard:{number}", "expr": expr}
        for number, expr in enumerate(expressions(json.loads(as_json())))
    ]
    return json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})


if __name__ == "__main__":
    sys.stdout.write(as_rules() if sys.argv[1:] == ["--rules"] else as_json())
