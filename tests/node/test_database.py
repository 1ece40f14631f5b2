"""The helper for people with their own node script."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from drills.processes import Cluster
from tests.node.conftest import REPOSITORY, RedisServer
from trader_node.database import DatabaseError, database_config

SCRIPT = """
    import json, os, signal, sys, time
    from redis import Redis
    from trader_node import database
    arguments = dict(host=sys.argv[1], timeout=2, journal_dir=sys.argv[2], **json.loads(sys.argv[3]))
    config = database.database_config(type="redis", **arguments)
    same = database.database_config(**arguments)
    assert config == same, "a second link was started"
    client = Redis(config.host, config.port)
    client.set("trader-TRADER-001:general:first", "1")
    (running,) = database._links.values()
    link = running.process._process
    command = open(f"/proc/{link.pid}/cmdline").read()
    assert "secret" not in command, command
    os.kill(link.pid, signal.SIGKILL)
    for _ in range(100):
        try:
            client = Redis(config.host, config.port)
            client.set("trader-TRADER-001:general:second", "2")
            break
        except OSError:
            time.sleep(0.1)
        except Exception:
            time.sleep(0.1)
    assert running.process._process.pid != link.pid, "the link was not started again"
    print(config.connection_timeout, config.host, running.process._process.pid)
"""


def _run(host: str, folder: Path, arguments: str = "{}") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), host, str(folder / "journal"), arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_research_documents_string_works(cluster: Cluster, tmp_path: Path) -> None:
    # Three hosts, nothing after them: the master name is mymaster.
    result = _run(cluster.url.removesuffix("/mymaster"), tmp_path)
    assert result.returncode == 0, result.stderr
    timeout, host, pid = result.stdout.split()
    assert (timeout, host) == ("2", "127.0.0.1")
    assert "link: DIED (killed by SIGKILL)" in result.stderr
    client = cluster.client(cluster.node_ports[0])
    assert client.mget("trader-TRADER-001:general:first", "trader-TRADER-001:general:second") == ["1", "2"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_password_goes_to_redis_and_nowhere_else(redis: RedisServer, tmp_path: Path) -> None:
    subprocess.run(["redis-cli", "-p", str(redis.port), "config", "set", "requirepass", "secret:/@"], check=True)
    result = _run(redis.url, tmp_path, '{"password": "secret:/@"}')
    assert result.returncode == 0, result.stderr
    assert "secret" not in result.stderr + result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"host": "sentinel://a:1,b:99999"}, "host 'b' is not a number from 1 to 65535"),
        ({"host": "http://x"}, "unknown scheme"),
        ({"host": "sentinel://127.0.0.1:1,127.0.0.1:2"}, "no Sentinel answers at 127.0.0.1:1, 127.0.0.1:2"),
        ({"host": "redis://r:1", "port": 2}, "port=2 is given beside a URL"),
        ({"host": "redis://:one@r:1", "password": "two"}, "given twice"),
        ({"host": "r", "type": "postgres"}, "type='postgres'"),
    ],
)
def test_a_mistake_is_named(arguments: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError) as caught:
        database_config(**arguments, journal_dir=tmp_path)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_a_certificate_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDIS_TLS_CA_FILE", "/nowhere/ca.crt")
    with pytest.raises(DatabaseError, match=r"REDIS_TLS_CA_FILE='/nowhere/ca\.crt' cannot be read"):
        database_config("rediss://127.0.0.1:1", journal_dir=tmp_path)


def test_an_unknown_master_name_is_named(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="no Sentinel knows a master named 'other'"):
        database_config(cluster.url.replace("/mymaster", "/other"), journal_dir=tmp_path)
