"""What ./scripts/secrets and ./scripts/certs do to files, and what a rotation says to servers; without Docker."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UID = os.getuid()
OWNER = f"{UID}:{os.getgid()}"
EMPTY = hashlib.sha256(b"").hexdigest()


def _run(command: list[str], stdin: str = "", user: int | None = None, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/home/somebody", **environment},
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        user=user,
    )
    return done.returncode, done.stdout


def _files(script: str, folder: Path, *arguments: str, stdin: str = "", **environment: str) -> tuple[int, str]:
    command = ["sh", f"scripts/lib/{script}-files.sh", *arguments]
    settings = {"SECRETS": str(folder), "SHOWN": "/shown", "OWNER": OWNER, "TMPDIR": str(folder.parent / "tmp")}
    return _run(command, stdin, **{**settings, **environment})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


# --- certificates ----------------------------------------------------------------------------------------------------


def _issue(folder: Path, *services: str, usage: str = "clientAuth", again: bool = False) -> tuple[int, str]:
    lines = "".join(f"{service} {UID} {usage} DNS:{service}\n" for service in services)
    return _files("certificate", folder, "issue", "30", *(("again",) if again else ()), stdin=lines)


@pytest.fixture
def tls(folder: Path) -> Path:
    """There are an authority and one certificate."""
    assert _files("certificate", folder, "authority", "30") == (0, "made\n")
    assert _issue(folder, "trader") == (0, "trader: new\n")
    return folder / "tls"


def test_the_authoritys_key_is_missed_only_when_something_is_to_be_issued(folder: Path, tls: Path) -> None:
    certificate = (tls / "ca.crt").read_text()
    (tls / "ca.key").rename(folder / "elsewhere")
    assert _files("certificate", folder, "authority", "30") == (0, "")
    assert _issue(folder, "trader") == (0, "")
    code, said = _issue(folder, "trader", "metrics")
    assert code == 1
    assert said.startswith("error: metrics needs a certificate, and the authority's key /shown/tls/ca.key is missing\n")
    assert not (tls / "metrics").exists()
    assert (tls / "ca.crt").read_text() == certificate
    (folder / "elsewhere").rename(tls / "ca.key")
    assert _issue(folder, "trader", "metrics") == (0, "metrics: new\n")


def test_the_key_of_another_authority_is_refused(folder: Path, tls: Path) -> None:
    shutil.copy(tls / "trader/tls.key", tls / "ca.key")
    code, said = _issue(folder, "metrics")
    assert (code, said.splitlines()[0]) == (1, "error: the key /shown/tls/ca.key is not that of /shown/tls/ca.crt")


@pytest.mark.parametrize("lost", [["ca.crt"], ["ca.crt", "ca.key"], ["ca.crt", "trader/tls.crt"]])
def test_a_lost_certificate_of_the_authority_is_not_replaced(lost: list[str], folder: Path, tls: Path) -> None:
    for name in lost:
        (tls / name).unlink()
    before = {path: path.read_bytes() for path in tls.rglob("*") if path.is_file()}
    code, said = _files("certificate", folder, "authority", "30")
    assert code == 1
    assert said.startswith("error: there is an authority already, and its certificate /shown/tls/ca.crt is missing\n")
    assert {path: path.read_bytes() for path in tls.rglob("*") if path.is_file()} == before


def test_a_failure_leaves_no_private_key_behind(folder: Path, tls: Path) -> None:
    code, _ = _issue(folder, "metrics", usage="nonsense")
    assert code != 0
    assert not list((folder.parent / "tmp").iterdir())
    assert not [path for path in tls.rglob("*") if "incomplete" in path.name]


KILLER = """#!/bin/sh
echo >>"$COUNTER"
[ "$(wc -l <"$COUNTER")" -ne "$STOP_AT" ] || { kill -9 "$PPID"; exit 1; }
exec /bin/%s "$@"
"""


def test_a_change_of_the_authority_is_completed_wherever_it_stopped(folder: Path, tls: Path) -> None:
    tools = folder.parent / "tools"
    tools.mkdir()
    for tool in ("mv", "rm"):
        (tools / tool).write_text(KILLER % tool)
        (tools / tool).chmod(0o755)

    def change(*steps: str, stop_at: int = 0) -> list[int]:
        counter = folder.parent / "counter"
        counter.write_text("")
        killed = {"PATH": f"{tools}:{os.environ['PATH']}", "COUNTER": str(counter), "STOP_AT": str(stop_at)}
        codes = []
        for step in steps:
            if step == "issue":
                codes.append(_issue(folder, "trader", again=True)[0])
            else:
                days = ("30",) if step == "next-authority" else ()
                codes.append(_files("certificate", folder, step, *days, **killed)[0])
        return codes

    whole = ("next-authority", "issue", "drop-old-authority")
    for stopped in ("next-authority", "drop-old-authority"):
        for stop_at in range(1, 20):
            for step in whole[: whole.index(stopped)]:
                assert change(step) == [0]
            interrupted = change(stopped, stop_at=stop_at) != [0]
            assert change(*whole) == [0, 0, 0], (stopped, stop_at)
            left = {path.name for path in tls.iterdir() if path.is_file() and ".incomplete." not in path.name}
            assert left == {"ca.crt", "ca.key"}
            assert (tls / "ca.crt").read_text().count("BEGIN CERTIFICATE") == 1
            # The authority is whole: it can issue, and what it issued is trusted.
            assert _issue(folder, "trader") == (0, "")
            assert _issue(folder, "trader", again=True) == (0, "trader: renewed\n")
            if not interrupted:
                break
        assert stop_at > 2, "nothing was interrupted"
        assert not interrupted


# --- passwords -------------------------------------------------------------------------------------------------------


@pytest.fixture
def passwords(folder: Path) -> Path:
    assert _files("secret", folder, "make", f"admin:{UID}", f"health:{UID}") == (0, "admin\nhealth\n")
    return folder / "passwords"


@pytest.mark.parametrize("content", ["", "\n"])
@pytest.mark.parametrize(
    "action",
    [("make", f"admin:{UID}"), ("hashes",), ("current", "admin"), ("begin", "admin")],
    ids=lambda action: action[0],
)
def test_an_empty_password_is_none(action: tuple[str, ...], content: str, folder: Path, passwords: Path) -> None:
    (passwords / "admin").write_text(content)
    code, said = _files("secret", folder, *action)
    assert code == 1
    assert "error: there is no password in /shown/passwords/admin\n" in said
    assert EMPTY not in said
    assert (passwords / "admin").read_text() == content
    assert not list((folder / "rotation").iterdir())


@pytest.mark.parametrize("action", [("hashes",), ("logins", "admin")], ids=lambda action: action[0])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("")], ids=["missing", "empty"])
@pytest.mark.usefixtures("passwords")
def test_an_old_password_that_is_lost_is_no_empty_one(action: tuple[str, ...], spoil, folder: Path) -> None:  # type: ignore[no-untyped-def]
    assert _files("secret", folder, "begin", "admin") == (0, "")
    spoil(folder / "rotation/admin.old")
    code, said = _files("secret", folder, *action)
    assert code == 1
    assert "error: there is no password in /shown/rotation/admin.old\n" in said
    assert EMPTY not in said
    assert 'AUTH admin ""' not in said
    # What the message says helps.
    for path in (folder / "rotation").iterdir():
        path.unlink()
    assert _files("secret", folder, "begin", "admin") == (0, "")
    assert _files("secret", folder, *action)[0] == 0


# --- the folder ------------------------------------------------------------------------------------------------------


def _bash(script: str, user: int | None = None, **environment: str) -> tuple[int, str]:
    libs = 'for lib in log settings lock apt secrets servers rotation; do . "scripts/lib/$lib.sh"; done; '
    return _run(["bash", "-euo", "pipefail", "-c", libs + script], user=user, **environment)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_of_something_else_stays_as_it_is(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "passwd").touch()
    code, said = _bash("ensure_secrets_dir", SECRETS_DIR=str(folder))
    assert (code, said.splitlines()[0]) == (1, f"error: SECRETS_DIR={folder} holds something else")
    assert _mode(folder) == 0o755


@pytest.mark.parametrize("content", [None, "passwords", "tls"])
def test_a_folder_that_was_there_keeps_its_mode(content: str | None, folder: Path) -> None:
    folder.chmod(0o750)
    if content:
        (folder / content).mkdir()
    assert _bash("ensure_secrets_dir", SECRETS_DIR=str(folder)) == (0, "")
    assert _mode(folder) == 0o750


def test_a_folder_that_is_made_is_nobody_elses(folder: Path) -> None:
    assert _bash("ensure_secrets_dir", SECRETS_DIR=str(folder / "new")) == (0, "")
    assert _mode(folder / "new") == 0o700


@pytest.mark.parametrize("check", ["ensure_secrets_dir", "need_secrets", "need_certificates"])
@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (
            "~/sec",
            "error: SECRETS_DIR=~/sec: nobody replaces ~ there\n"
            "       write the whole path, for example /home/somebody/sec\n",
        ),
        ("/a:b", "error: SECRETS_DIR=/a:b has a colon, which ends a path in Compose\n       use a path without one\n"),
    ],
)
def test_a_path_that_compose_reads_otherwise_is_refused(setting: str, says: str, check: str) -> None:
    assert _bash(check, SECRETS_DIR=setting) == (1, says)


@pytest.mark.parametrize(
    ("setting", "meant"),
    [("./secrets", ROOT / "secrets"), ("../a/./b/", ROOT.parent / "a/b"), ("/a//b/../c", Path("/a/c"))],
)
def test_a_path_is_written_as_compose_writes_it(setting: str, meant: Path) -> None:
    assert _bash("secrets_dir", SECRETS_DIR=setting) == (0, f"{meant}\n")


@pytest.fixture
def closed() -> Iterator[Path]:
    """Of somebody else; its parent is open."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        closed = Path(parent) / "secrets"
        (closed / "passwords").mkdir(parents=True)
        closed.chmod(0)
        yield closed
        closed.chmod(0o700)


@pytest.mark.parametrize("check", ["ensure_secrets_dir", "need_secrets", "need_certificates"])
def test_a_folder_that_is_closed_is_not_called_empty(check: str, closed: Path) -> None:
    code, said = _bash(check, user=None if UID else 65534, SECRETS_DIR=str(closed))
    assert (code, said.splitlines()[0]) == (1, f"error: SECRETS_DIR={closed} is closed to you")


# --- servers ---------------------------------------------------------------------------------------------------------

#: `with_secrets` tells of two users with an old and a new hash; $USERS and $TOLD are what the server does when it is
#: asked for its users and told to change them.
SERVER = """
with_secrets() { printf '%s\n' 'admin aa bb' 'trader-TRADER-001 cc dd'; }
ask() { eval "$USERS"; }
tell() { cat >&2; eval "$TOLD"; }
"""
KNOWN = "printf '%s\n' default admin TRADER-001"
CHANGES = {
    "add_new_hashes": "ACL SETUSER admin #aa bb\nACL SETUSER TRADER-001 #cc dd\n",
    "remove_old_hashes": "ACL SETUSER admin resetpass #aa bb\nACL SETUSER TRADER-001 resetpass #cc dd\n",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_server_changes_its_users(change: str) -> None:
    script = f"{SERVER} {change} server admin trader-TRADER-001; echo done"
    assert _bash(script, USERS=KNOWN, TOLD="echo OK; echo OK") == (0, CHANGES[change] + "done\n")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("users", "told", "says"),
    [
        ("return 1", "echo OK; echo OK", "server does not say which users it has"),
        ("echo NOAUTH Authentication required.", "echo OK; echo OK", "server does not say which users it has"),
        ("echo", "echo OK; echo OK", "server does not say which users it has"),
        (KNOWN, "return 1", "server does not answer when its users are changed"),
        (KNOWN, "echo OK; return 1", "server does not answer when its users are changed"),
        (KNOWN, "echo OK", "server refuses to change its users: no answer"),
        (KNOWN, ":", "server refuses to change its users: no answer"),
        (KNOWN, "echo OK; echo ERR no", "server refuses to change its users: ERR no"),
    ],
)
def test_a_server_that_did_not_change_its_users_stops_the_rotation(
    users: str, told: str, says: str, change: str
) -> None:
    script = f"{SERVER} {change} server admin trader-TRADER-001; echo done"
    code, said = _bash(script, USERS=users, TOLD=told)
    assert code == 1
    assert said.endswith(f"error: {says}\n       when it is mended, run this again: it completes the rotation\n")


@pytest.mark.parametrize("check", ["check_logins server admin", "check_known admin"])
def test_a_server_that_does_not_name_its_users_passes_no_check(check: str) -> None:
    code, said = _bash(f"{SERVER} NODES=(server); {check}; echo done", USERS="return 1", TOLD=":")
    assert code == 1
    assert said.startswith("error: server does not say which users it has")
