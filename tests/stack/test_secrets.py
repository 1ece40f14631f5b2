"""Passwords, ACL files and certificates as ./scripts/secrets and ./scripts/certs make them; no stack is started."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stacks import ROOT, run_script

USERS = {"admin": 10002, "health": 10002, "replica": 10002, "sentinel": 10002, "metrics": 10003}
TRADERS = {"trader-TRADER-001": 10001, "trader-TRADER-002": 10001}
SERVERS = {
    f"{kind}-{number}": f"172.28.77.{row}{number}"
    for kind, row in (("redis", 1), ("sentinel", 2))
    for number in (1, 2, 3)
}
CLIENTS = ("trader", "trader-2", "metrics", "admin")
Run = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def _run(command: str, *arguments: str, expect: int = 0, **environment: str) -> str:
    """Run one of our scripts as a user would; return all that it printed."""
    settings = {"SUBNET_PREFIX": "172.28.77", "COMPOSE_PROJECT_NAME": "nautilus-redis-ha-not-running"}
    return run_script({**os.environ, **settings, **environment}, command, *arguments, expect=expect)


@pytest.fixture
def run(folder: Path) -> Run:
    """Run one of our scripts on the folder of the test."""
    return lambda *arguments, **options: _run(*arguments, **{"SECRETS_DIR": str(folder), **options})


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder that both scripts have filled, and what they said."""
    folder = tmp_path_factory.mktemp("template") / "secrets"
    return folder, "".join(_run(command, SECRETS_DIR=str(folder)) for command in ("secrets", "certs"))


@pytest.fixture
def made(template: tuple[Path, str], folder: Path) -> str:
    """The folder of the test is filled already; returns what the scripts said."""
    subprocess.run(["cp", "-a", str(template[0]), str(folder)], check=True)
    return template[1]


@pytest.fixture
def without_openssl(tmp_path: Path) -> str:
    """A PATH with everything but openssl, so that a container does the work."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for directory in reversed(os.environ["PATH"].split(os.pathsep)):
        if Path(directory).is_dir():
            for tool in Path(directory).iterdir():
                link = tools / tool.name
                link.unlink(missing_ok=True)
                link.symlink_to(tool)
    (tools / "openssl").unlink()
    return str(tools)


def _passwords(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "passwords").iterdir()}


def _openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- passwords -------------------------------------------------------------------------------------------------------


def test_every_user_has_a_password_that_its_reader_alone_can_read(made: str, folder: Path) -> None:
    passwords = _passwords(folder)
    assert passwords.keys() == USERS.keys() | TRADERS.keys()
    for name, uid in (USERS | TRADERS).items():
        path = folder / "passwords" / name
        assert (_mode(path), path.stat().st_uid) == (0o600, uid), name
        assert re.fullmatch("[0-9a-f]{64}", passwords[name]), "not 256 random bits"
        assert passwords[name] not in made
    assert len(set(passwords.values())) == len(passwords)
    for directory in (folder, folder / "passwords", folder / "acl"):
        assert _mode(directory) == 0o700, directory


@pytest.mark.usefixtures("made")
def test_acl_files_hold_hashes_alone(folder: Path) -> None:
    passwords = _passwords(folder)
    for kind, absent in (("nodes", set()), ("sentinels", {"replica"})):
        path = folder / "acl" / f"{kind}.acl"
        assert (_mode(path), path.stat().st_uid) == (0o600, 10002)
        text = path.read_text()
        assert not [name for name, password in passwords.items() if password in text]
        assert ">" not in text
        lines = {line.split()[1]: line for line in text.splitlines()}
        assert lines.pop("default").startswith("user default off ")
        assert lines.keys() == {name.removeprefix("trader-") for name in passwords} - absent
        for name in passwords.keys() - absent:
            digest = hashlib.sha256(passwords[name].encode()).hexdigest()
            assert f" on #{digest} " in lines[name.removeprefix("trader-")]


@pytest.mark.usefixtures("made")
def test_what_is_there_stays_and_a_new_trader_only_adds(run: Run, folder: Path) -> None:
    before, inode = _passwords(folder), (folder / "acl/nodes.acl").stat().st_ino
    assert "All passwords are there" in run("secrets")
    assert _passwords(folder) == before
    run("secrets", TRADERS="TRADER-007,TRADER-008")
    after = _passwords(folder)
    assert after.keys() - before.keys() == {"trader-TRADER-007", "trader-TRADER-008"}
    assert before.items() <= after.items()
    # A trader that the settings name no more keeps its access.
    run("secrets")
    assert "\nuser TRADER-007 on " in (folder / "acl/nodes.acl").read_text()
    # Containers have the very file mounted.
    assert (folder / "acl/nodes.acl").stat().st_ino == inode


@pytest.mark.usefixtures("made")
def test_a_file_that_was_opened_to_others_is_closed_again(run: Run, folder: Path) -> None:
    path = folder / "passwords/admin"
    path.chmod(0o644)
    os.chown(path, 0, 0)
    run("secrets")
    assert (_mode(path), path.stat().st_uid) == (0o600, 10002)


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (("rotat",), {}, "unknown argument: rotat"),
        (("rotate",), {}, "rotate: which user?"),
        (("rotate", "admin"), {}, "holds no passwords"),
        ((), {"TRADER_ID": "a/b-c"}, 'trader id "a/b-c"'),
        ((), {"TRADERS": "TRADER-003,admin"}, 'trader id "admin"'),
        ((), {"SECRETS_DIR": "/proc/nothing"}, "SECRETS_DIR=/proc/nothing cannot be written"),
    ],
)
def test_a_mistake_gets_one_clear_line(
    arguments: tuple[str, ...], environment: dict[str, str], says: str, run: Run, folder: Path
) -> None:
    said = run("secrets", *arguments, expect=1, **environment)
    assert f"error: {says}" in said or says in said.splitlines()[0]
    assert not (folder / "passwords").exists(), "something was made all the same"


@pytest.mark.usefixtures("made")
def test_rotation_names_the_unknown_user_and_wants_a_stack(run: Run, folder: Path) -> None:
    before = _passwords(folder)
    assert 'there is no user "nobody"' in run("secrets", "rotate", "admin", "nobody", expect=1)
    assert "is not running" in run("secrets", "rotate", "all", expect=1)
    assert _passwords(folder) == before
    assert not list((folder / "rotation").iterdir())


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(("command", "arguments"), [("secrets", ()), ("certs", ()), ("certs", ("renew",))])
def test_nothing_is_made_while_something_is_changed(
    command: str, arguments: tuple[str, ...], run: Run, folder: Path
) -> None:
    (folder / "passwords/metrics").unlink()
    (folder / "tls/metrics/tls.crt").unlink()
    with (folder / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = run(command, *arguments, expect=1)
    assert said == (
        "error: another change of passwords or certificates is under way\n       wait until it has finished\n"
    )
    assert not (folder / "passwords/metrics").exists()
    assert not (folder / "tls/metrics/tls.crt").exists()


def _files(folder: Path, *arguments: str) -> str:
    """Run the script that knows the files; as root, which is what the scripts make of everybody."""
    command = ["sh", str(ROOT / "scripts/lib/secret-files.sh"), *arguments]
    owner = f"{os.getuid()}:{os.getgid()}"
    environment = {**os.environ, "SECRETS": str(folder), "OWNER": owner}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.usefixtures("made")
def test_the_files_of_a_rotation_at_every_step(folder: Path) -> None:
    # Of somebody's own making: of another length, with a newline, and with what a command line has a meaning for.
    path = folder / "passwords/admin"
    old = 'a "quoted" \\ password of somebody\'s own making that is longer than sixty-four characters'
    path.write_text(old + "\n")
    inode = path.stat().st_ino

    def hashes(*only_new: str) -> list[str]:
        lines = [line.split() for line in _files(folder, "hashes", *only_new).splitlines()]
        return next(digests for name, *digests in lines if name == "admin")

    def digest(password: str) -> str:
        return hashlib.sha256(password.encode()).hexdigest()

    assert hashes() == [digest(old)]
    _files(folder, "begin", "admin", "health")
    new = (folder / "rotation/admin.new").read_text()
    assert re.fullmatch("[0-9a-f]{64}", new)
    assert _mode(folder / "rotation/admin.new") == 0o600
    for step in ("begin", "adopt", "begin", "adopt"):
        # Interrupted anywhere and begun again: the choice stays, and both count.
        _files(folder, step, "admin", "health")
        assert (folder / "rotation/admin.new").read_text() == new
        assert hashes() == [digest(old), digest(new)]
    assert path.read_text() == new
    assert path.stat().st_ino == inode, "containers have the other file"
    assert _files(folder, "unfinished").split() == ["admin", "health"]
    escaped = old.replace("\\", "\\\\").replace('"', '\\"')
    assert _files(folder, "logins", "admin") == f'AUTH admin "{escaped}"\nAUTH admin "{new}"\n'
    assert hashes("health") == [digest(old), digest(new)]
    assert hashes("admin", "health") == [digest(new)]
    _files(folder, "end", "admin", "health")
    assert hashes() == [digest(new)]
    assert not list((folder / "rotation").iterdir())


# --- certificates ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("made")
def test_every_service_has_a_certificate_for_its_addresses(folder: Path) -> None:
    tls = folder / "tls"
    assert _mode(tls / "ca.key") == 0o600
    assert (tls / "ca.key").stat().st_uid == os.getuid()
    assert {path.parent.name for path in tls.glob("*/tls.crt")} == SERVERS.keys() | set(CLIENTS)
    owners = dict.fromkeys(SERVERS, 10002) | {
        "trader": 10001,
        "trader-2": 10001,
        "metrics": 10003,
        "admin": os.getuid(),
    }
    for service, uid in owners.items():
        key, certificate = tls / service / "tls.key", tls / service / "tls.crt"
        assert (_mode(key), key.stat().st_uid) == (0o600, uid), service
        assert not (tls / service / "ca.key").exists()
        authority = str(tls / service / "ca.crt")
        purposes = ("sslserver", "sslclient") if service in SERVERS else ("sslclient",)
        for purpose in purposes:
            _openssl("verify", "-x509_strict", "-CAfile", authority, "-purpose", purpose, str(certificate))
        text = _openssl("x509", "-in", str(certificate), "-noout", "-text")
        assert "Public-Key: (256 bit)" in text
        names = [f"DNS:{service}"]
        if service in SERVERS:
            names += ["DNS:localhost", "IP Address:127.0.0.1", f"IP Address:{SERVERS[service]}"]
        assert ", ".join(names) in text, service
    with pytest.raises(subprocess.CalledProcessError):
        _openssl("verify", "-CAfile", str(tls / "ca.crt"), "-purpose", "sslserver", str(tls / "trader/tls.crt"))


@pytest.mark.usefixtures("made")
def test_certificates_stay_unless_something_is_wrong_with_them(run: Run, folder: Path) -> None:
    before = {path: path.read_text() for path in (folder / "tls").rglob("*.*") if path.is_file()}
    assert "All certificates are there" in run("certs")
    assert {path: path.read_text() for path in before} == before
    (folder / "tls/redis-1/tls.key").unlink()
    (folder / "tls/redis-2/tls.crt").write_bytes((folder / "tls/redis-3/tls.crt").read_bytes())
    said = run("certs", "redis-4")
    assert "redis-1: new" in said
    assert "redis-2: the old one does not belong to its key" in said
    assert "redis-4: new" in said
    assert "redis-3" not in said
    said = run("certs", SUBNET_PREFIX="172.28.78")
    assert "redis-3: the old one is for other names" in said
    assert "trader" not in said


@pytest.mark.usefixtures("made")
def test_the_authoritys_key_can_be_elsewhere_until_it_is_needed(run: Run, folder: Path) -> None:
    authority = (folder / "tls/ca.crt").read_text()
    (folder / "tls/ca.key").rename(folder / "elsewhere")
    assert "All certificates are there" in run("certs")
    said = run("certs", "redis-4", expect=1)
    assert said.startswith(f"error: redis-4 needs a certificate, and the authority's key {folder}/tls/ca.key is")
    assert (folder / "tls/ca.crt").read_text() == authority
    # Lost for good.
    run("certs", "renew", "--ca")
    assert "redis-4: new" in run("certs", "redis-4")


def test_status_tells_what_expires_and_writes_nothing(run: Run, folder: Path) -> None:
    run("certs", CERTS_DAYS="13")
    moment = time.time_ns()
    said = run("certs", "status", expect=1)
    assert said.count("expires soon") == len(SERVERS) + len(CLIENTS)
    assert "authority       until" in said
    assert "expires soon" not in run("certs", "status", CERTS_WARN_DAYS="12")
    run("certs", "renew", "metrics", CERTS_DAYS="90")
    renewed = run("certs", "status", expect=1)
    assert renewed.count("expires soon") == len(SERVERS) + len(CLIENTS) - 1
    assert not [
        path
        for path in folder.rglob("*")
        if path.stat().st_mtime_ns > moment and "metrics" not in str(path) and path.is_file() and path.name != ".lock"
    ]


def test_no_certificate_outlives_its_authority(run: Run, folder: Path) -> None:
    run("certs", CA_DAYS="5", CERTS_DAYS="50")
    ends = {
        _openssl("x509", "-in", str(path), "-noout", "-enddate")
        for path in (folder / "tls/ca.crt", folder / "tls/redis-1/tls.crt")
    }
    assert len(ends) == 1


@pytest.mark.usefixtures("made")
def test_a_new_authority_replaces_the_old_one_everywhere(run: Run, folder: Path) -> None:
    old = (folder / "tls/ca.crt").read_text()
    run("certs", "renew", "--ca")
    new = (folder / "tls/ca.crt").read_text()
    assert new != old
    assert new.count("BEGIN CERTIFICATE") == 1
    assert sorted(path.name for path in (folder / "tls").iterdir() if path.is_file()) == ["ca.crt", "ca.key"]
    for path in (folder / "tls").glob("*/tls.crt"):
        assert (path.parent / "ca.crt").read_text() == new
        _openssl("verify", "-CAfile", str(folder / "tls/ca.crt"), str(path))


def test_without_openssl_a_container_does_it(run: Run, folder: Path, without_openssl: str) -> None:
    said = run("certs", PATH=without_openssl)
    assert "Certificate authority made" in said
    assert "All certificates are there" in run("certs")
    key = folder / "tls/trader/tls.key"
    assert (_mode(key), key.stat().st_uid) == (0o600, 10001)
    assert "authority" in run("certs", "status", PATH=without_openssl)


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (("redis-0",), {}, 'there is no service "redis-0"'),
        (("--force",), {}, "unknown option: --force"),
        (("renew", "--all"), {}, "unknown option: --all"),
        (("renew",), {}, "holds no certificates"),
        (("status",), {}, "holds no certificates"),
        ((), {"CERTS_DAYS": "soon"}, "CERTS_DAYS=soon is not a number of days"),
        ((), {"SECRETS_DIR": "/proc/nothing"}, "SECRETS_DIR=/proc/nothing cannot be written"),
    ],
)
def test_a_mistake_with_certificates_gets_one_clear_line(
    arguments: tuple[str, ...], environment: dict[str, str], says: str, run: Run, folder: Path
) -> None:
    said = run("certs", *arguments, expect=1, **environment)
    assert says in said
    assert said.startswith("error: "), said
    assert not (folder / "tls").exists(), "something was made all the same"


def test_nothing_of_it_reaches_the_repository_or_an_image() -> None:
    assert (
        subprocess.run(
            ["git", "-C", str(ROOT), "check-ignore", "-q", "secrets/passwords/admin"], check=False
        ).returncode
        == 0
    )
    assert "/secrets/" in (ROOT / ".dockerignore").read_text().splitlines()
