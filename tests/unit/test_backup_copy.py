"""What a node gives for a backup, with a server and Sentinels that only answer."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SENTINELS = "10.0.0.21:26379 10.0.0.22:26379 10.0.0.23:26379"
#: Larger than what the disk takes in one of the tests.
AOF = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$1\r\n1\r\n" * 3000
MANIFEST = "file a.base.rdb seq 1 type b\nfile a.incr.aof seq 1 type i\n"
#: Answers as a master, and as Sentinels that name another address or this one.
REDIS_CLI = """#!/bin/sh
case "$*" in
    *BGSAVE*) echo 'Background saving started' ;;
    *TIME*) echo 100 ;;
    *LASTSAVE*) echo 100 ;;
    *INFO*) printf '%s\\n' role:master master_repl_offset:7 loading:0 aof_enabled:1 aof_last_write_status:ok \\
        rdb_bgsave_in_progress:0 rdb_last_bgsave_status:ok aof_pending_bio_fsync:0 ;;
    *'-h 10.0.0.2'[12]*)
        [ -n "$NAMED" ] && printf '%s\\n' "$NAMED" 6379 flags master config-epoch 4 ;;
    *) exit 1 ;;
esac
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    tools = tmp_path / "tools"
    for tool, text in (("redis-cli", REDIS_CLI), ("redis-check-aof", "#!/bin/sh\n")):
        (tools / tool).parent.mkdir(exist_ok=True)
        (tools / tool).write_text(text)
        (tools / tool).chmod(0o755)
    folder = tmp_path / "data"
    (folder / "appendonlydir").mkdir(parents=True)
    (folder / "dump.rdb").write_bytes(b"REDIS")
    (folder / "appendonlydir/appendonly.aof.manifest").write_text(MANIFEST)
    (folder / "appendonlydir/a.base.rdb").write_bytes(b"REDIS")
    (folder / "appendonlydir/a.incr.aof").write_bytes(AOF)
    return folder


def backup(
    data: Path, command: str, *, blocks: str = "unlimited", **settings: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command of backup.sh where no file can be larger than so many blocks of 512 bytes."""
    environment = {
        **os.environ,
        "PATH": f"{data.parent / 'tools'}:{os.environ['PATH']}",
        "DATA": str(data),
        "NODE_IP": "10.0.0.11",
        **settings,
    }
    script = f'ulimit -f {blocks}; exec sh "$0" "$1"'
    arguments = ["sh", "-c", script, str(ROOT / "redis-conf/backup.sh"), command]
    return subprocess.run(arguments, capture_output=True, env=environment, timeout=60, check=False)


def test_a_copy_is_whole(data: Path) -> None:
    done = backup(data, "copy")
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        member = archive.extractfile("appendonlydir/a.incr.aof")
        assert member is not None
        assert member.read() == AOF


def test_a_copy_for_which_there_is_no_room_is_none(data: Path) -> None:
    done = backup(data, "copy", blocks="40")
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"a.incr.aof could not be copied: is the disk full?" in done.stderr
    assert sorted(path.name for path in data.iterdir()) == ["appendonlydir", "dump.rdb"]


@pytest.mark.parametrize(
    ("sentinels", "named", "says"),
    [
        ("", "", "master 7"),
        (SENTINELS, "10.0.0.11", "master 7"),
        (SENTINELS, "10.0.0.12", "unfit 7 it says that it is a master, and the Sentinels name 10.0.0.12:6379"),
        (SENTINELS, "", "unfit 7 no majority of the Sentinels agrees on the master"),
    ],
)
def test_a_master_is_fit_if_the_sentinels_name_it(data: Path, sentinels: str, named: str, says: str) -> None:
    done = backup(data, "state", SENTINELS=sentinels, NAMED=named)
    assert done.stdout.decode().strip() == says, done.stderr
