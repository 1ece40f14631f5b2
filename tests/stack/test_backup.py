"""Backups under live trading, and stacks from them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.containers import docker
from drills.stack import NODES, Stack
from tests import backups
from tests.backups import LONGEST_WRITE, Taken, check_contents, damaged, refit_sums, settings_of
from tests.stacks import refusal, run_script

IMAGE = f"nautilus-redis-ha/redis:{os.environ.get('IMAGE_TAG', 'local')}"


@pytest.fixture(scope="module")
def taken(running_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    running_stack.heal()
    running_stack.wait_for_writes()
    return backups.take(running_stack, tmp_path_factory.mktemp("backups"))


def test_master_does_not_stall(taken: Taken) -> None:
    assert taken.writes > 50
    assert taken.longest_write < LONGEST_WRITE


def test_backup_is_from_a_replica_and_for_its_owner_alone(running_stack: Stack, taken: Taken) -> None:
    node = taken.manifest["node"]
    assert node["role"] == "replica"
    assert node["service"] in NODES
    assert node["service"] != running_stack.master()
    for path in (taken.folder, *taken.folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert "SHA256SUMS" in {path.name for path in taken.folder.iterdir()}


def test_nothing_is_left_on_the_node(running_stack: Stack, taken: Taken) -> None:
    node = taken.manifest["node"]["service"]
    left = running_stack.execute(node, "sh", "-c", "ls -A /data").split()
    assert not [name for name in left if "backup" in name]


def test_whole_backup_is_verified_and_listed(running_stack: Stack, taken: Taken) -> None:
    environment = settings_of(running_stack)
    assert "is whole" in run_script(environment, "backup", "verify", str(taken.folder))
    listed = run_script(environment, "backup", "list", "--to", str(taken.folder.parent))
    assert taken.folder.name in listed
    assert f"{running_stack.trader_id}: " in listed


@pytest.mark.parametrize(
    ("command", "name", "sums_follow", "says"),
    [
        (["restore"], "incr.aof", False, "incr.aof: FAILED"),
        (["backup", "verify"], "dump.rdb", True, "dump.rdb is damaged"),
    ],
)
def test_damaged_backup_is_refused(
    running_stack: Stack, taken: Taken, tmp_path: Path, command: list[str], name: str, says: str, *, sums_follow: bool
) -> None:
    bad = damaged(taken.folder, tmp_path / "bad", name, sums_follow=sums_follow)
    said = refusal(settings_of(running_stack), command[0], *command[1:], str(bad))
    assert "is DAMAGED" in said
    assert says in said


@pytest.mark.long
def test_backup_that_holds_something_else_than_its_manifest_says_is_refused(
    running_stack: Stack, taken: Taken, tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(taken.folder, bad)
    manifest = bad / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"keys": ', '"keys": 1'))
    refit_sums(bad)
    said = refusal(settings_of(running_stack), "backup", "verify", str(bad))
    assert "and the manifest says 1" in said


def test_restore_overwrites_nothing_without_being_told(running_stack: Stack, taken: Taken) -> None:
    before = running_stack.start_times()
    said = refusal(settings_of(running_stack), "restore", str(taken.folder))
    assert "is not empty: the stack runs, and the volumes of redis-1 redis-2 redis-3" in said
    assert "--replace" in said
    assert running_stack.start_times() == before


@pytest.mark.long
def test_old_backups_go_after_a_new_one_and_never_the_last(running_stack: Stack, taken: Taken, tmp_path: Path) -> None:
    old = [tmp_path / f"{running_stack.project}-2020010{day}T000000Z" for day in (1, 2)]
    others = tmp_path / f"{running_stack.project}-other-20200101T000000Z"
    for folder in (*old, others):
        shutil.copytree(taken.folder, folder)
    environment = settings_of(running_stack)
    run_script(environment, "backup", "--to", str(tmp_path), "--keep", "0")
    assert all(folder.exists() for folder in old), "0 keeps all"
    time.sleep(1)  # names are seconds
    run_script(environment, "backup", "--to", str(tmp_path), "--keep", "1")
    assert not any(folder.exists() for folder in old)
    assert others.exists(), "another project's"
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3
    said = refusal(environment | {"BACKUP_KEEP_DAYS": "soon"}, "backup", "--to", str(tmp_path))
    assert "BACKUP_KEEP_DAYS=soon" in said


@pytest.fixture(scope="module")
def beside(running_stack: Stack) -> dict[str, str]:
    """Settings of another stack that may run beside the one under test."""
    return settings_of(running_stack) | {
        "COMPOSE_PROJECT_NAME": f"{running_stack.project}-restored",
        "SUBNET_PREFIX": os.environ.get("TEST_RESTORED_SUBNET_PREFIX", "172.28.84"),
        **{f"REDIS_{number}_PORT": str(16465 + number) for number in (1, 2, 3)},
        **{f"SENTINEL_{number}_PORT": str(26465 + number) for number in (1, 2, 3)},
    }


@pytest.mark.parametrize(
    ("journal_id", "first", "says"),
    [("", 10**9, "gap"), pytest.param("of-another-stack", 1, "foreign", marks=pytest.mark.long)],
)
def test_journal_that_does_not_fit_is_told_before_anything_changes(
    running_stack: Stack, taken: Taken, beside: dict[str, str], journal_id: str, first: int, says: str
) -> None:
    trader = running_stack.trader_id
    owner = taken.manifest["aof"]["traders"][trader]["marker_owner"]
    state = json.dumps({"journal_id": journal_id or owner.partition(":")[0], "contacted": True})
    volume = f"{beside['COMPOSE_PROJECT_NAME']}_trader"
    script = 'mkdir -p "/v/$1/journal" && cd "/v/$1/journal" && echo "$2" >link.json && touch "$3.journal"'
    run_script(beside, "down", "--volumes", "--yes")
    try:
        docker(
            *("run", "--rm", "--network", "none", "--user", "0:0", "--volume", f"{volume}:/v", "--entrypoint", "sh"),
            *(IMAGE, "-euc", script, "sh", trader, state, f"{first:020d}"),
        )
        said = refusal(beside, "restore", str(taken.folder))
        assert f"could not start on these data: {says}, see above; nothing was changed" in said
        assert "--new-journal" in said
        project = f"label=com.docker.compose.project={beside['COMPOSE_PROJECT_NAME']}"
        assert not docker("ps", "--all", "--quiet", "--filter", project).strip()
        left = docker("volume", "ls", "--quiet", "--filter", f"name=^{beside['COMPOSE_PROJECT_NAME']}_").split()
        assert left == [volume]
    finally:
        docker("volume", "rm", "--force", volume)


@pytest.fixture(scope="module")
def restored(running_stack: Stack, taken: Taken, beside: dict[str, str]) -> Iterator[Stack]:
    """A stack of its own from the backup, without a trader."""
    environment = beside
    run_script(environment, "down", "--volumes", "--yes")
    try:
        said = run_script(environment, "restore", str(taken.folder), "--redis-only")
        assert "3 nodes hold what the backup holds" in said
        yield Stack(running_stack.root, environment=environment)
    finally:
        run_script(environment, "down", "--volumes", "--yes")


def test_every_position_and_order_is_on_the_restored_nodes(running_stack: Stack, restored: Stack, taken: Taken) -> None:
    assert restored.master() == "redis-1"
    # One that has copied everything from the node to which the backup went.
    record = backups.inspect_restored(running_stack, f"{restored.project}_stack", f"{restored.ip('redis-3')}:6379")
    print(check_contents(record, taken))
    counts = taken.manifest["aof"]["traders"][running_stack.trader_id]
    assert (len(record["positions"]), len(record["orders"])) == (counts["positions"], counts["orders"])
    keys = [set(restored.client(node).scan_iter(count=1000)) for node in NODES]
    assert keys[0] == keys[1] == keys[2]


@pytest.mark.long
def test_without_a_replica_in_sync_there_is_no_backup_unless_told(restored: Stack, tmp_path: Path) -> None:
    restored.kill("redis-2", "redis-3")
    environment = restored.environment
    said = refusal(environment, "backup", "--to", str(tmp_path))
    assert "no replica is in sync" in said
    assert "--from-master" in said
    assert not list(tmp_path.iterdir())
    run_script(environment, "backup", "--to", str(tmp_path), "--from-master")
    (made,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert '"role": "master"' in (made / "manifest.json").read_text()


#: Copies the data again and again while transactions and rewrites go on, and looks at what each copy holds: both lists
#: are written by every transaction, so they have to be equal, without a hole, and hold what was written before.
COPIES = r"""
export NODE_IP=127.0.0.1 SENTINELS= PEERS= REDIS_MIN_REPLICAS=0
sh /opt/redis-node/entrypoint.sh >/tmp/log &
until [ "$(redis-cli PING 2>/dev/null)" = PONG ]; do sleep 0.05; done
awk 'BEGIN { for (i = 1; i <= 3000000; i++) printf "MULTI\nRPUSH a %d\nRPUSH b %d\nEXEC\n", i, i }' |
    redis-cli >/dev/null 2>&1 &
sh -c 'while redis-cli BGREWRITEAOF; do sleep 0.15; done' >/dev/null 2>&1 &
until [ "$(redis-cli LLEN a)" -gt 2000 ]; do sleep 0.05; done
for copy in 1 2; do
    before=$(redis-cli LLEN a)
    mkdir "/tmp/$copy"
    sh /opt/redis-node/backup.sh copy >"/tmp/$copy.tar"
    sh /opt/redis-node/backup-check.sh <"/tmp/$copy.tar" >"/tmp/$copy.facts"
    tar -C "/tmp/$copy" -xf "/tmp/$copy.tar"
    for part in aof rdb; do
        if [ $part = rdb ]; then
            rm -rf "/tmp/$copy/appendonlydir"
            sh /opt/redis-node/snapshot-as-aof.sh "/tmp/$copy/dump.rdb" "/tmp/$copy/appendonlydir"
        fi
        redis-server --port 7000 --dir "/tmp/$copy" --appendonly yes --aof-load-truncated no --save '' >/dev/null &
        until redis-cli -p 7000 INFO persistence 2>/dev/null | grep -q '^loading:0'; do sleep 0.05; done
        redis-cli -p 7000 LRANGE a 0 -1 >/tmp/a
        redis-cli -p 7000 LRANGE b 0 -1 >/tmp/b
        kill -KILL $! && wait $! 2>/dev/null || :
        cmp /tmp/a /tmp/b && seq "$(wc -l </tmp/a)" | cmp - /tmp/a
        echo "$part $before $(wc -l </tmp/a)"
    done
done
ls -A /data | grep -v '^temp-rewriteaof-'
"""


@pytest.mark.timeout(200)
def test_copies_under_load_and_rewrites_are_whole_transactions() -> None:
    command = ["docker", "run", "--rm", "--init", "--network", "none", "--entrypoint", "sh", IMAGE, "-euc", COPIES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *copies, left = done.stdout.splitlines()
    assert left == "appendonlydir"
    assert len(copies) == 4
    for part, before, held in (line.split() for line in copies):
        assert int(held) >= int(before), f"{part}: written before, and not in the copy"


#: What is there of the newest file at the first look ends in the middle of what is being written.
TORN = r"""
export NODE_IP=127.0.0.1 SENTINELS= PEERS= REDIS_MIN_REPLICAS=0
sh /opt/redis-node/entrypoint.sh >/tmp/log &
until [ "$(redis-cli PING 2>/dev/null)" = PONG ]; do sleep 0.05; done
redis-cli SET key value
printf "$1" | redis-cli
mkdir /tmp/bin
cat >/tmp/bin/wc <<'SHIM'
#!/bin/sh
[ ! -e /tmp/cut ] || exec /usr/bin/wc "$@"
touch /tmp/cut
echo "$(($(/usr/bin/wc "$@") - 7))"
SHIM
chmod +x /tmp/bin/wc
PATH=/tmp/bin:$PATH sh /opt/redis-node/backup.sh copy | sh /opt/redis-node/backup-check.sh
test -e /tmp/cut
"""


@pytest.mark.parametrize("last", ["SET last 1\n", "MULTI\nSET last 1\nSET last 2\nEXEC\n"])
def test_copy_never_ends_in_the_middle_of_a_command_or_a_transaction(last: str) -> None:
    options = ("--rm", "--init", "--network", "none", "--entrypoint", "sh")
    command = ["docker", "run", *options, IMAGE, "-euc", TORN, "sh", last]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "aof\tkeys\t" in done.stdout


def test_second_backup_of_a_node_at_once_is_refused() -> None:
    script = r"""
    sh /opt/redis-node/entrypoint.sh >/tmp/log &
    until [ "$(redis-cli PING 2>/dev/null)" = PONG ]; do sleep 0.05; done
    exec 8>/data/.backup.lock
    flock 8
    sh /opt/redis-node/backup.sh copy
    """
    options = ("--rm", "--init", "--network", "none", "--env", "NODE_IP=127.0.0.1", "--entrypoint", "sh")
    done = subprocess.run(
        ["docker", "run", *options, IMAGE, "-c", script],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"another backup of this node is being taken" in done.stderr
