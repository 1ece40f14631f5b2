"""Gathers the state of the whole stack, bounded in time whatever is down; :mod:`trader_node.status` shows it."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from typing import Any, cast

from redis.exceptions import RedisError, ResponseError

from trader_node.heartbeat import NodeState, read_heartbeat
from trader_node.link.url import Address, RedisTarget
from trader_node.redis_access import RedisAccessError, ask_all, client
from trader_node.settings import Settings

Survey = dict[str, Any]

_DEFAULT_LINK_HTTP = "127.0.0.1:9125"
#: What is asked of a node.
_SECTIONS = ("replication", "memory", "persistence", "stats")
_STALE_SECS = 5
_SETS = ("positions", "positions_open", "orders", "orders_open")


def survey(settings: Settings) -> Survey:
    """Return the state of Sentinels, Redis nodes, stored trader, node and link.

    Takes less than 3 s also if everything is down. What is wrong is told in ``problems``, one line each.
    """
    problems: list[str] = []
    target = settings.redis
    sentinels: Survey | None = None
    master: Address | None = target.hosts[0]
    replicas: list[Address] = []
    if target.sentinel:
        sentinels, master, replicas = _sentinels(target, problems)
    nodes = _nodes(master, replicas, target, problems)
    return {
        "target": str(target),
        "master": None if master is None else show(master),
        "sentinels": sentinels,
        "nodes": nodes,
        "stored": _stored(master, settings, nodes),
        "node": _node(settings, problems),
        "link": _link(problems),
        "alerts": _alerts(),
        "problems": problems,
    }


def show(address: Address) -> str:
    """Return ``host:port``."""
    return f"{address[0]}:{address[1]}"


def _sentinels(target: RedisTarget, problems: list[str]) -> tuple[Survey, Address | None, list[Address]]:
    """Return what the Sentinels say, the master that they name, and its replicas."""
    name = target.master_name

    def ask(address: Address) -> Survey:
        with client(address, target, sentinel=True) as sentinel:
            try:
                master = _pairs(sentinel.execute_command("SENTINEL", "MASTER", name))
            except ResponseError as error:
                return {"error": str(error)}
            replicas = [_pairs(row) for row in sentinel.execute_command("SENTINEL", "REPLICAS", name)]
            try:
                quorum = _text(sentinel.execute_command("SENTINEL", "CKQUORUM", name))
            except ResponseError as error:
                quorum = str(error)
        return {"master": master, "replicas": replicas, "quorum": quorum}

    rows: list[Survey] = []
    views: list[Survey] = []
    for address, answer in zip(target.hosts, ask_all(target.hosts, ask), strict=True):
        row: Survey = {"address": show(address)}
        if isinstance(answer, Exception):
            row["error"] = _reason(answer)
        elif "error" in answer:
            row["error"] = f"does not know {name!r}: {answer['error']}"
        else:
            views.append(answer)
            row |= {
                "master": f"{answer['master']['ip']}:{answer['master']['port']}",
                "config_epoch": int(answer["master"].get("config-epoch", 0)),
                "flags": answer["master"]["flags"],
                "quorum": answer["quorum"],
            }
        if "error" in row:
            problems.append(f"Sentinel {row['address']}: {row['error']}")
        rows.append(row)
    can_fail_over = sum(view["quorum"].startswith("OK") for view in views)
    asked = len(target.hosts)
    # There may be more of them than the URL names; whether these are up the others say, by their quorum.
    known = max([asked, *(int(view["master"]["num-other-sentinels"]) + 1 for view in views)])
    if not can_fail_over or can_fail_over + known - asked < known // 2 + 1:
        problems.append(f"no failover possible: only {can_fail_over} of {asked} Sentinels see a quorum")
    sentinels: Survey = {"members": rows, "quorum_ok": can_fail_over, "known": known}
    if not views:
        return sentinels, None, []
    # After a failover the highest epoch is the newest truth, also if one Sentinel has not heard of it yet.
    newest = max(views, key=lambda view: int(view["master"].get("config-epoch", 0)))
    if len({(view["master"]["ip"], view["master"]["port"]) for view in views}) > 1:
        problems.append("the Sentinels name different masters: a failover is going on")
    replicas = [(row["ip"], int(row["port"])) for row in newest["replicas"]]
    return sentinels, (newest["master"]["ip"], int(newest["master"]["port"])), replicas


def _nodes(master: Address | None, replicas: list[Address], target: RedisTarget, problems: list[str]) -> list[Survey]:
    if master is None:
        problems.append("the master is unknown: no Sentinel tells")
        return []
    addresses = [master, *(address for address in replicas if address != master)]

    def ask(address: Address) -> dict[str, Any]:
        with client(address, target) as redis:
            answer = redis.info(*_SECTIONS)
        # redis-py types a synchronous client's answer as maybe awaitable.
        return cast("dict[str, Any]", answer)

    answers = ask_all(addresses, ask)
    head = answers[0]
    head_offset = None if isinstance(head, Exception) else int(head["master_repl_offset"])
    return [
        _node_row(address, answer, address == master, head_offset, problems)
        for address, answer in zip(addresses, answers, strict=True)
    ]


def _node_row(
    address: Address,
    answer: dict[str, Any] | Exception,
    is_master: bool,
    head_offset: int | None,
    problems: list[str],
) -> Survey:
    expected = "master" if is_master else "replica"
    row: Survey = {"address": show(address), "expected": expected}
    if isinstance(answer, Exception):
        problems.append(f"{expected} {row['address']}: {_reason(answer)}")
        return row | {"error": _reason(answer)}
    row["role"] = "replica" if answer["role"] == "slave" else answer["role"]
    row["memory_bytes"] = int(answer.get("used_memory", 0))
    row["memory_limit_bytes"] = int(answer.get("maxmemory", 0))
    row["aof_bytes"] = int(answer.get("aof_current_size", 0))
    row["aof_ok"] = answer.get("aof_last_write_status", "ok") == "ok"
    row["commands"] = int(answer.get("total_commands_processed", 0))
    if row["role"] != expected:
        problems.append(f"{row['address']} is a {row['role']}, the Sentinels take it for a {expected}")
    if row["role"] == "master":
        return row | {"offset": int(answer["master_repl_offset"]), "replicas": int(answer["connected_slaves"])}
    # A replica's own count; master_repl_offset is what it passes on to its own replicas.
    row["offset"] = int(answer.get("slave_repl_offset", 0))
    row["link"] = answer.get("master_link_status", "unknown")
    row["last_io_seconds"] = int(answer.get("master_last_io_seconds_ago", -1))
    if head_offset is not None:
        # The two were asked at different moments: a negative difference only means that the replica was asked later.
        row["lag_bytes"] = max(0, head_offset - row["offset"])
    if row["link"] != "up":
        problems.append(f"replica {row['address']}: link to its master is {row['link']}")
    return row


def _stored(master: Address | None, settings: Settings, nodes: list[Survey]) -> Survey | None:
    if master is None or not nodes or "error" in nodes[0]:
        return None
    prefix = f"trader-{settings.trader_id}:"

    def ask(address: Address) -> Survey:
        with client(address, settings.redis) as redis:
            pipeline = redis.pipeline(transaction=False)
            for name in _SETS:
                pipeline.scard(f"{prefix}index:{name}")
            counts = pipeline.execute()
        return dict(zip(_SETS, counts, strict=True))

    (answer,) = ask_all([master], ask)
    return None if isinstance(answer, Exception) else {"trader_id": settings.trader_id} | answer


def _node(settings: Settings, problems: list[str]) -> Survey | None:
    beat = read_heartbeat(settings.heartbeat_path)
    if beat is None:
        problems.append("node: no heartbeat: the trader does not run in this container")
        return None
    age = int(time.time()) - beat.time
    if age > _STALE_SECS:
        problems.append(f"node: last heartbeat {age} s ago, it hangs or is gone")
    elif beat.state is not NodeState.RUNNING:
        problems.append(f"node: {beat.state}")
    return {
        "state": str(beat.state),
        "heartbeat_age_seconds": age,
        "paused": bool(beat.paused),
        "positions_open": beat.positions_open,
        "orders": beat.orders,
        "fills": beat.fills,
        "quotes": beat.quotes,
        "pid": beat.pid,
    }


def _link(problems: list[str]) -> Survey | None:
    address = os.environ.get("LINK_HTTP") or _DEFAULT_LINK_HTTP
    try:
        with urllib.request.urlopen(f"http://{address}/status", timeout=0.5) as response:
            answer = json.load(response)
    except (OSError, ValueError):
        return None
    if not isinstance(answer, dict):
        return None
    if not answer.get("healthy", True):
        problems.append(f"link: {answer.get('reason') or answer.get('state')}")
    restored = answer.get("markers_restored", 0)
    if restored:
        problems.append(
            f"link: somebody else removed its marker {restored} times since its start (FLUSHALL, DEL or eviction): "
            "look what else is gone; the next start of the link forgets this"
        )
    return answer


def _alerts() -> list[Survey] | None:
    """Return what fires, most severe first; None where no Prometheus is, or where it does not answer."""
    address = os.environ.get("PROMETHEUS_ADDRESS")
    if not address:
        return None
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/alerts", timeout=0.5) as response:
            alerts = json.load(response)["data"]["alerts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    rows = [
        {
            "name": alert["labels"]["alertname"],
            "severity": alert["labels"].get("severity", ""),
            "summary": alert["annotations"].get("summary", ""),
            "since": alert["activeAt"],
        }
        for alert in alerts
        if alert["state"] == "firing"
    ]
    return sorted(rows, key=lambda row: (row["severity"], row["name"], row["summary"]))


def _reason(error: Exception) -> str:
    if isinstance(error, RedisError | OSError | RedisAccessError):
        return str(error) or type(error).__name__
    return repr(error)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _pairs(row: Any) -> dict[str, str]:
    """Return a Sentinel's flat list of names and values, or redis-py's parsed form of it, as a dict of text."""
    if isinstance(row, dict):
        return {_text(key): _text(value) for key, value in row.items()}
    return {_text(key): _text(value) for key, value in zip(row[::2], row[1::2], strict=True)}
