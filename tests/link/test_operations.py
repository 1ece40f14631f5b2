"""Starting, stopping and going wrong, with real processes: what the link does, and what it says."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from drills.processes import Cluster, LinkProcess, Process, freeze, thaw
from drills.stall import Pulse
from drills.waiting import wait_until

from .conftest import events, has_event, status

StartLink = Callable[..., LinkProcess]
MARKER = "trader-TRADER-001.link"


def client(link: LinkProcess, timeout: float = 20.0) -> Redis:
    return Redis("127.0.0.1", link.port, socket_timeout=timeout, retry=Retry(NoBackoff(), 0), protocol=2)


def health_code(link: LinkProcess) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{link.http_port}/healthz", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def metric(link: LinkProcess, name: str, **labels: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{link.http_port}/metrics", timeout=5) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    (value,) = [s.value for family in families for s in family.samples if s.name == name and s.labels == labels]
    return value


# --- start -----------------------------------------------------------------------------------------------------------


def test_without_a_master_the_link_waits_and_says_so_and_then_serves(tmp_path: Path, start_link: StartLink) -> None:
    cluster = Cluster(tmp_path / "cluster")
    link = start_link(cluster.url)
    wait_until(lambda: has_event(link, "waiting_for_master"), 10, "it says that it waits")
    assert status(link)["state"] == "holding"
    assert health_code(link) == 200, "waiting for Redis is no reason to restart the link"
    try:
        with pytest.raises(RedisError):
            client(link, 0.3).set("early", 1)
        cluster.start()
        assert client(link).set("k", "v")
        assert status(link)["state"] == "ready"
        assert len(events(link, "hold_ended")) == 1
    finally:
        cluster.stop()


def test_a_journal_in_memory_is_a_loud_warning(cluster: Cluster, start_link: StartLink) -> None:
    link = start_link(cluster.url, journal=False)
    (warning,) = events(link, "journal_in_memory")
    assert warning["level"] == "warning"
    assert "LINK_JOURNAL_DIR" in warning["msg"]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("REDIS_URL=", "REDIS_URL"),
        ("REDIS_URL=http://h:1", "REDIS_URL"),
        ("LINK_LISTEN=nowhere", "LINK_LISTEN"),
        ("LINK_HTTP=nowhere", "LINK_HTTP"),
        ("LINK_ON_GAP=maybe", "LINK_ON_GAP"),
        ("LINK_ON_OOM=maybe", "LINK_ON_OOM"),
        ("LINK_FSYNC=sometimes", "LINK_FSYNC"),
        ("LINK_RESPONSE_TIMEOUT=0", "LINK_RESPONSE_TIMEOUT"),
        ("LINK_FORCE_FAILOVER=perhaps", "LINK_FORCE_FAILOVER"),
        ("LINK_LOG_FORMAT=xml", "LINK_LOG_FORMAT"),
        ("LOG_LEVEL=LOUD", "LOG_LEVEL"),
        ("LINK_JOURNAL_DIR=/proc/no", "/proc/no"),
        ("LINK_ACKNOWLEDGE_HELD_AFTER=1", "LINK_JOURNAL_DIR"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(setting: str, says: str) -> None:
    name, value = setting.split("=", 1)
    base = {"REDIS_URL": "redis://127.0.0.1:1", "LINK_LISTEN": "127.0.0.1:0", "LINK_HTTP": "", "LOG_LEVEL": "CRITICAL"}
    result = subprocess.run(
        [sys.executable, "-m", "trader_node.link"],
        env={"PYTHONPATH": ":".join(sys.path), **base, name: value},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert says in result.stderr


# --- stop ------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_applied_at_sigterm_stays_in_the_journal_and_is_said(
    cluster: Cluster, start_link: StartLink
) -> None:
    link = start_link(cluster.url, LINK_DRAIN_TIMEOUT="0.5", LINK_ACKNOWLEDGE_HELD_AFTER="0.2")
    client(link).rpush("kept", "before")
    for process in [*cluster.sentinels.values(), *cluster.nodes.values()]:
        freeze(process)
    # Answered from the journal: from now on it must not be lost, whatever becomes of the link.
    client(link).rpush("kept", "during")
    assert link.terminate(5) == 0
    (drained,) = events(link, "drained")
    assert (drained["left"], drained["level"]) == ("1", "warning")
    assert "the next start sends them" in drained["msg"]
    for process in [*cluster.nodes.values(), *cluster.sentinels.values()]:
        thaw(process)
    link.start()
    master = cluster.client(cluster.master())
    wait_until(lambda: master.lrange("kept", 0, -1) == ["before", "during"], 20, "the rest is sent, once")


# --- two links -------------------------------------------------------------------------------------------------------


def test_second_link_of_an_id_takes_nothing_from_the_first(cluster: Cluster, start_link: StartLink) -> None:
    first = start_link(cluster.url, "first")
    client(first).set("k", 1)
    # From now on the first one has nothing to write: that alone does not make it look dead.
    second = start_link(cluster.url, "second")
    wait_until(lambda: has_event(second, "halted"), 20, "the second one stops")
    assert status(second)["halt_cause"] == "foreign"
    assert health_code(second) == 503
    assert "LINK_ADOPT" in status(second)["reason"]
    assert client(first).set("k", 2)
    assert status(first)["state"] == "ready"
    assert status(first)["fenced"] == 0


def test_new_journal_takes_over_what_a_dead_link_left(cluster: Cluster, start_link: StartLink) -> None:
    first = start_link(cluster.url, "first")
    client(first).rpush("l", 1)
    first.kill()
    second = start_link(cluster.url, "second")
    assert client(second).rpush("l", 2) == 2
    assert any("other" in line["msg"] for line in events(second, "marker_warning"))
    assert metric(second, "redis_link_up") == 1


def test_told_to_adopt_the_second_link_takes_over_at_once_and_the_first_one_stops(
    cluster: Cluster, start_link: StartLink
) -> None:
    first = start_link(cluster.url, "first")
    client(first).set("k", 1)
    second = start_link(cluster.url, "second", LINK_ADOPT="true")
    assert client(second).set("k", 2)
    with pytest.raises(RedisError):
        client(first, 2.0).set("k", 3)
    wait_until(lambda: has_event(first, "halted"), 20, "the first one stops")
    assert metric(first, "redis_link_halted", cause="foreign") == 1
    assert cluster.client(cluster.master()).get("k") == "2"


# --- a lost marker ---------------------------------------------------------------------------------------------------


def _flush_with_a_transaction_on_its_way(cluster: Cluster, link: Process, pulse: Pulse) -> None:
    """Leave the link with a transaction of unknown outcome and a data set that somebody has emptied meanwhile."""
    pulse.beating()
    for sentinel in cluster.sentinels.values():
        freeze(sentinel)
    master = cluster.master_by_role()
    freeze(cluster.nodes[master])
    assert isinstance(link, LinkProcess)
    wait_until(lambda: has_event(link, "lost_master"), 10, "the link gives the connection up")
    freeze(link)
    thaw(cluster.nodes[master])
    direct = cluster.client(master)
    wait_until(direct.ping, 10, "the master is back")
    direct.flushall()
    direct.set("somebody", "else")
    assert not direct.exists(MARKER)
    thaw(link)


def test_flushall_with_a_transaction_on_its_way_halts_and_continues_only_when_told(
    cluster: Cluster, start_link: StartLink, tmp_path: Path
) -> None:
    health = tmp_path / "health"
    link = start_link(cluster.url, LINK_HEALTH_FILE=str(health))
    pulse = Pulse(link.port)
    pulse.start()
    _flush_with_a_transaction_on_its_way(cluster, link, pulse)
    wait_until(lambda: has_event(link, "halted"), 20, "the link halts")
    for sentinel in cluster.sentinels.values():
        thaw(sentinel)
    (halted,) = events(link, "halted")
    assert (halted["cause"], halted["held"]) == ("outcome_unknown", "1")
    assert "LINK_ON_GAP=continue" in halted["msg"]
    assert health_code(link) == 503
    assert metric(link, "redis_link_halted", cause="outcome_unknown") == 1
    wait_until(lambda: "healthy=0\nstate=halted\n" in health.read_text(), 5, "the health file says so")
    link.terminate()
    applied = len(pulse.acknowledged)
    with pytest.raises((RedisError, OSError)):
        pulse.stop()

    stopped = start_link(cluster.url)
    wait_until(lambda: len(events(stopped, "halted")) == 2, 20, "it halts again: stopping is the default")
    assert events(stopped, "halted")[-1]["cause"] == "marker_lost"
    stopped.terminate()

    link = start_link(cluster.url, LINK_ON_GAP="continue")
    assert client(link).rpush("pulse", "on") == 2, "what was on its way is sent, and nothing that was applied before"
    (warning,) = events(link, "marker_warning")
    assert f"{applied} entries up to {applied} may be missing" in warning["msg"]
    assert f"1 entries behind {applied} are sent again and may be in it twice" in warning["msg"]
    assert metric(link, "redis_link_gap_entries_total", kind="unsure") == applied + 1
    assert metric(link, "redis_link_gap_entries_total", kind="lost") == 0
    assert status(link)["healthy"]
    link.terminate()
    # Done with: the next start finds an ordinary data set, whatever the policy.
    link = start_link(cluster.url)
    assert client(link).rpush("pulse", "and on") == 3


# --- what is said ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["logfmt", "json", "text"])
def test_no_payload_and_no_password_is_ever_said(cluster: Cluster, start_link: StartLink, style: str) -> None:
    for port in cluster.node_ports:
        cluster.client(port).execute_command("ACL", "SETUSER", "trader", "on", ">PASSWORD-XYZ", "~*", "&*", "+@all")
    url = cluster.url.replace("sentinel://", "sentinel://trader:PASSWORD-XYZ@")
    link = start_link(url, wait=False, LOG_LEVEL="DEBUG", LINK_LOG_FORMAT=style, LINK_ACKNOWLEDGE_HELD_AFTER="0.1")
    wait_until(lambda: "listening on" in link.log.read_text(), 20, "the link listens")
    redis = client(link)
    redis.set("PAYLOAD-KEY", "PAYLOAD-VALUE")
    for wrong in (
        ("RPUSHX", "PAYLOAD-KEY", "PAYLOAD-VALUE"),
        ("PAYLOAD-COMMAND", "PAYLOAD-VALUE"),
        ("SET", "PAYLOAD-KEY"),
    ):
        with pytest.raises(ResponseError):
            redis.execute_command(*wrong)
    master = cluster.master()
    cluster.nodes[master].kill()
    # Answered from the journal and then refused: the error is the operator's only trace of it.
    redis.execute_command("RPUSHX", "PAYLOAD-KEY", "PAYLOAD-VALUE")
    redis.execute_command("SET", "PAYLOAD-KEY", "PAYLOAD-VALUE", "PAYLOAD-OPTION")
    cluster.wait_for_other_master(master)
    redis.set("PAYLOAD-KEY", "PAYLOAD-VALUE")
    told = [link.log.read_text()]
    for path in ("status", "metrics", "healthz"):
        with urllib.request.urlopen(f"http://127.0.0.1:{link.http_port}/{path}", timeout=5) as response:
            told.append(response.read().decode())
    assert status(link)["late_errors"] > 0
    assert link.terminate() == 0
    told.append(link.log.read_text())
    for text in told:
        assert "PAYLOAD" not in text
        assert "PASSWORD" not in text
