"""./scripts/backup and ./scripts/restore with a Docker that only answers: what they refuse, and what they leave."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "a-project"
#: Everything that is not asked for below succeeds and says nothing.
DOCKER = r"""#!/bin/bash
printf '%s\n' "$*" >>"$FAKE/said"
case "$*" in
    FAILS) exit 1 ;;
    'compose version --short') echo 2.30.0 ;;
    *'com.docker.compose.service" }}') printf 'redis-%s\n' 1 2 ;;
    'ps '*'project.config_files" }}') [[ -z ${FILES:-} ]] || echo "trader|$ROOT|$FILES" ;;
    inspect*/etc/trader/node.json*) echo "${OWN_NODE:-}" ;;
    inspect*/opt/user*) echo "${OWN_CODE:-}" ;;
    'ps '*' --quiet') [[ -z ${RUNS:-} ]] || echo 0123456789ab ;;
    # Of one volume alone.
    'volume ls'*'$') ;;
    'volume ls'*) printf "$COMPOSE_PROJECT_NAME"'_%s\n' $VOLUMES ;;
    *'redis-1 sh /opt/redis-node/backup.sh state') echo "$STATE_1" ;;
    *'redis-2 sh /opt/redis-node/backup.sh state') echo "$STATE_2" ;;
    *'basename $each'*) printf '%s\n' redis-1 redis-2 ;;
    *'backup.sh copy') tar -C "$FAKE/backup" -cf - . ;;
    # Checks are given data that arrive as an archive.
    *backup-check.sh | *backup_manifest*) cat >/dev/null ;;
esac
"""


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup whose checksums fit, in a folder "backup" of the one from which commands are run."""
    folder = tmp_path / "backup"
    (folder / "appendonlydir").mkdir(parents=True)
    for name in ("dump.rdb", "manifest.json", "appendonlydir/a.incr.aof"):
        (folder / name).write_text(f"{name}: neither short nor empty")
    names = ("appendonlydir/a.incr.aof", "dump.rdb", "manifest.json")
    sums = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    (folder / "SHA256SUMS").write_bytes(sums)
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script of ours in a folder that is not the repository's; ``fails`` is a pattern of Docker's arguments."""

    def _run(*command: str, fails: str = "nothing", **settings: str) -> subprocess.CompletedProcess[str]:
        tools = tmp_path / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "docker").write_text(DOCKER.replace("FAILS", fails))
        (tools / "docker").chmod(0o755)
        (tmp_path / "said").write_text("")
        return subprocess.run(
            [str(ROOT / "scripts" / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{tools}:{os.environ['PATH']}",
                "FAKE": str(tmp_path),
                "ROOT": str(ROOT),
                "COMPOSE_PROJECT_NAME": PROJECT,
                "VOLUMES": "redis-1 redis-2",
                "STATE_1": "master 10",
                "STATE_2": "replica 9",
                **settings,
            },
            timeout=60,
            check=False,
        )

    return _run


def said_to_docker(folder: Path) -> str:
    return (folder / "said").read_text()


# --- paths count from where the caller is ----------------------------------------------------------------------------


def test_paths_count_from_where_the_caller_is(run: Run, backup: Path, tmp_path: Path) -> None:
    done = run("backup", "verify", "backup")
    assert done.returncode == 0, done.stderr
    assert f"{backup} is whole" in done.stdout
    assert f'no backup of "{PROJECT}" in {tmp_path}/some' in run("backup", "list", "--to", "some").stderr
    done = run("restore", "backup", "--replace", "--yes", "--config", "node.json")
    assert f"TRADER_CONFIG={tmp_path}/node.json: no such file" in done.stderr
    assert f"TRADER_CONFIG={tmp_path}/node.json: no such file" in run("up", "--config", "node.json").stderr
    (tmp_path / "node.json").write_text("{}")
    done = run("up", "--check", "--config", "node.json", "--code", "code")
    assert f"TRADER_CODE_DIR={tmp_path}/code: no such directory" in done.stderr


@pytest.mark.parametrize("command", [("backup", "--to"), ("restore", "--config"), ("up", "--config"), ("up", "--code")])
def test_a_path_that_is_empty_or_missing_is_told(run: Run, command: tuple[str, ...], tmp_path: Path) -> None:
    for arguments in (command, (*command, "")):
        done = run(*arguments)
        assert done.returncode == 1
        assert done.stderr.splitlines()[0] == f"error: {command[-1]} needs a path"
    assert not said_to_docker(tmp_path)


# --- taking one ------------------------------------------------------------------------------------------------------


def old_backup(folder: Path, days: float) -> Path:
    path = folder / time.strftime(f"{PROJECT}-%Y%m%dT%H%M%SZ", time.gmtime(time.time() - days * 86400))
    path.mkdir(parents=True)
    (path / "manifest.json").touch()
    return path


@pytest.mark.usefixtures("backup")
@pytest.mark.parametrize(("keep", "days"), [("08", 8), ("010", 10), ("14", 14)])
def test_older_backups_are_deleted_after_so_many_days(run: Run, tmp_path: Path, keep: str, days: int) -> None:
    older, newer = old_backup(tmp_path / "to", days + 0.1), old_backup(tmp_path / "to", days - 0.1)
    others = tmp_path / "to" / f"{PROJECT}-other-20200101T000000Z"
    others.mkdir()
    (tmp_path / "backup/node.tsv").touch()
    done = run("backup", "--to", "to", BACKUP_KEEP_DAYS=keep, RUNS="yes")
    assert done.returncode == 0, done.stderr
    assert not older.exists()
    assert newer.exists()
    assert others.exists()
    assert f"deleted {older.name}, older than {days} days" in done.stdout


def test_days_that_are_no_number_are_told(run: Run) -> None:
    assert "BACKUP_KEEP_DAYS=soon is not a number of days" in run("backup", BACKUP_KEEP_DAYS="soon").stderr


@pytest.mark.usefixtures("backup")
def test_a_backup_that_is_deleted_in_part_is_none_any_more(run: Run, tmp_path: Path) -> None:
    old = old_backup(tmp_path / "to", 30)
    rm = tmp_path / "tools/rm"
    rm.parent.mkdir()
    # Interrupted.
    rm.write_text('#!/bin/sh\ncase "$*" in *' + old.name + ') exit 1 ;; esac\nexec /bin/rm "$@"\n')
    rm.chmod(0o755)
    (tmp_path / "backup/node.tsv").touch()
    assert run("backup", "--to", "to", RUNS="yes").returncode == 1
    assert not old.exists()
    assert (tmp_path / "to" / f".partial-{old.name}").exists()
    rm.unlink()
    time.sleep(1)  # names are seconds
    assert run("backup", "--to", "to", RUNS="yes").returncode == 0
    assert not list((tmp_path / "to").glob(".partial-*"))


@pytest.mark.usefixtures("backup")
@pytest.mark.parametrize(
    ("states", "option", "says"),
    [
        (("master 10", "replica 9"), [], "Copying from redis-2"),
        (("replica 8", "replica 9"), [], "Copying from redis-2"),
        (("master 10", "unfit 9 it lags"), [], "no replica is in sync: redis-2: it lags"),
        (("master 2000000", "replica 9"), [], "redis-2: it lags 1999991 bytes behind redis-1"),
        (("master 10", "unfit 9 it lags"), ["--from-master"], "Copying from redis-1"),
        # Cut off: another one has its role, and cannot be reached from here.
        (("unfit 10 the Sentinels name another", "unfit 0"), ["--from-master"], "redis-1: the Sentinels name another"),
    ],
)
def test_where_a_backup_is_taken_from(
    run: Run, tmp_path: Path, states: tuple[str, str], option: list[str], says: str
) -> None:
    (tmp_path / "backup/node.tsv").touch()
    done = run("backup", "--to", "to", *option, RUNS="yes", STATE_1=states[0], STATE_2=states[1])
    assert says in done.stdout + done.stderr
    assert done.returncode == (not says.startswith("Copying"))
    assert (tmp_path / "to").exists() == says.startswith("Copying")


# --- one that is not whole -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("backup", "verify"), ("restore",)])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "dump.rdb").unlink(), "is DAMAGED: sha256sum: dump.rdb: No such file"),
        (lambda folder: (folder / "dump.rdb").write_text("other"), "is DAMAGED: dump.rdb: FAILED"),
        (lambda folder: (folder / "more").touch(), "is DAMAGED: it holds other files than SHA256SUMS lists"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "is no complete backup"),
        (lambda folder: (folder / "manifest.json").unlink(), "is no complete backup"),
        (lambda folder: folder.rename(folder.with_name("elsewhere")), "no such backup"),
    ],
)
def test_an_incomplete_backup_is_refused(
    run: Run, backup: Path, command: tuple[str, ...], damage: Callable[[Path], object], says: str
) -> None:
    damage(backup)
    done = run(*command, "backup")
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[0]


@pytest.mark.usefixtures("backup")
@pytest.mark.parametrize("fails", ["*backup-check.sh", "*backup_manifest\\ compare"])
def test_a_backup_that_cannot_be_loaded_or_holds_something_else_is_refused(run: Run, fails: str) -> None:
    done = run("backup", "verify", "backup", fails=fails)
    assert done.returncode == 1
    assert "is DAMAGED" in done.stderr


# --- restoring -------------------------------------------------------------------------------------------------------


def changed_nothing(folder: Path) -> bool:
    """Whether nothing was stopped, made or started: what Docker was asked only reads."""
    said = said_to_docker(folder)
    return not any(word in said for word in ("stop", "create", " up ", "mv "))


@pytest.mark.usefixtures("backup")
def test_a_restore_has_no_trial_run(run: Run, tmp_path: Path) -> None:
    done = run("restore", "backup", "--check", "--replace", "--yes", RUNS="yes")
    assert done.returncode == 1
    assert "error: --check is no option of restore" in done.stderr
    assert not said_to_docker(tmp_path)


@pytest.mark.usefixtures("backup")
def test_a_stack_with_an_own_node_gets_it_again(run: Run, tmp_path: Path) -> None:
    files = ",".join(f"{ROOT}/compose/{name}.yaml" for name in ("base", "second-trader", "own-strategy"))
    node, code = tmp_path / "a node.json", tmp_path / "code"
    known = {"FILES": files, "OWN_NODE": str(node), "OWN_CODE": str(code), "RUNS": "yes"}
    done = run("restore", "backup", "--replace", "--yes", **known)
    assert f"error: TRADER_CONFIG={node}: no such file" in done.stderr
    assert changed_nothing(tmp_path), said_to_docker(tmp_path)

    node.touch()
    code.mkdir()
    run("restore", "backup", "--replace", "--yes", **known)
    started = [line for line in said_to_docker(tmp_path).splitlines() if " up --detach" in line]
    assert started
    for line in started:
        assert f"-f {ROOT}/compose/second-trader.yaml -f {ROOT}/compose/own-strategy.yaml" in line

    # One that was moved, and of which somebody has told.
    done = run("restore", "backup", "--replace", "--yes", TRADER_CONFIG="/moved.json", **known)
    assert "error: TRADER_CONFIG=/moved.json: no such file" in done.stderr


@pytest.mark.usefixtures("backup")
def test_data_are_replaced_only_if_somebody_says_so(run: Run, tmp_path: Path) -> None:
    done = run("restore", "backup", RUNS="yes")
    assert done.returncode == 1
    assert "is not empty: the stack runs, and the volumes of redis-1 redis-2 hold data" in done.stderr
    # Also where ./scripts/up would refuse: an overlay of somebody's own.
    done = run("restore", "backup", RUNS="yes", FILES=f"{ROOT}/compose/base.yaml,/mine/limits.yaml")
    assert "is not empty: the stack runs" in done.stderr
    done = run("restore", "backup", "--replace", RUNS="yes")
    assert done.returncode == 1
    assert "replacing data needs a confirmation, and there is no terminal" in done.stderr
    assert changed_nothing(tmp_path), said_to_docker(tmp_path)


@pytest.mark.usefixtures("backup")
@pytest.mark.parametrize(
    ("fails", "says"),
    [
        ("volume\\ ls*_", f'the volumes of "{PROJECT}" cannot be listed'),
        ("*/volumes/redis-1*", "the volumes of redis-1 redis-2 cannot be read"),
        ("*_trader-2:/volume:ro*", "the journals cannot be read"),
        ("*_trader:/volume:ro*", "the journals cannot be read"),
    ],
)
def test_a_volume_that_cannot_be_read_is_not_taken_for_an_empty_one(
    run: Run, tmp_path: Path, fails: str, says: str
) -> None:
    options = ("--replace", "--yes")
    done = run("restore", "backup", *options, fails=fails, VOLUMES="redis-1 redis-2 trader trader-2 other")
    assert done.returncode == 1
    assert f"error: {says}" in done.stderr, done.stderr
    assert changed_nothing(tmp_path), said_to_docker(tmp_path)


@pytest.mark.usefixtures("backup")
@pytest.mark.parametrize(
    ("fails", "says"),
    [
        ("*mkdir*/before-restore-*", "the data of redis-1 redis-2 could not all be put aside as before-restore-"),
        ("*journal-before-restore-*", f"the journals on {PROJECT}_trader could not be put aside"),
        ("*/data/.restoring*", f'the data could not be put on the volume "{PROJECT}_redis-1"'),
        ("*backup_manifest\\ expected*", "the manifest of "),
    ],
)
def test_a_restore_ends_at_the_first_step_that_fails(run: Run, tmp_path: Path, fails: str, says: str) -> None:
    options = ("--replace", "--yes", "--new-journal")
    done = run("restore", "backup", *options, fails=fails, VOLUMES="redis-1 redis-2 trader")
    assert done.returncode == 1
    assert f"error: {says}" in done.stderr, done.stderr
    # Redis without a trader is the last step before the nodes are compared.
    assert said_to_docker(tmp_path).count(" up --detach") == (says == "the manifest of ")
