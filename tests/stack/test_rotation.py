"""New passwords on one Redis in a container of its own: fast, and with what a whole stack would not forgive."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.stack import docker
from drills.waiting import wait_until
from tests.stacks import ROOT, run_script

PROJECT = "nautilus-redis-ha-test-rotation"
NODE = f"{PROJECT}-redis-1-1"
IMAGE = f"nautilus-redis-ha/redis:{os.environ.get('IMAGE_TAG', 'local')}"
#: Whose password the container has mounted, besides the ACL file.
MOUNTED = ("admin", "replica")
AS_ADMIN = ("exec", "--interactive", NODE, "sh", "/opt/redis-node/cli.sh")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rotation") / "secrets"


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "COMPOSE_PROJECT_NAME": PROJECT, "SECRETS_DIR": str(folder)}


@pytest.fixture(scope="module", autouse=True)
def node(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """One node, known to the scripts by its labels."""
    run_script(environment, "secrets")
    docker("rm", "--force", NODE)
    labels = {"project": PROJECT, "service": "redis-1", "oneoff": "False"}
    files = {f"passwords/{user}": user for user in MOUNTED} | {"acl/nodes.acl": "users.acl"}
    docker(
        *("run", "--detach", "--name", NODE, "--network", "none", "--entrypoint", "redis-server"),
        *(f"--label=com.docker.compose.{name}={value}" for name, value in labels.items()),
        *(f"--volume={folder / source}:/run/secrets/{target}:ro" for source, target in files.items()),
        *(IMAGE, "--aclfile", "/run/secrets/users.acl", "--save", ""),
    )
    try:
        wait_until(lambda: "PONG" in docker(*AS_ADMIN, "PING"), 20, "the node answers")
        yield
    finally:
        docker("rm", "--force", NODE)


def _lets_in(user: str, password: str) -> bool:
    command = ["docker", *AS_ADMIN]
    done = subprocess.run(command, input=f"AUTH {user} {password}\n", capture_output=True, text=True, check=True)
    assert done.stdout.startswith(("OK", "WRONGPASS")), done.stdout
    return done.stdout.startswith("OK")


def _password(folder: Path, name: str) -> str:
    return (folder / "passwords" / name).read_text()


def test_all_are_rotated(environment: dict[str, str], folder: Path) -> None:
    old = {path.name: path.read_text() for path in (folder / "passwords").iterdir()}
    connected = docker(*AS_ADMIN, "INFO", "clients")
    said = run_script(environment, "secrets", "rotate", "all")
    for name, password in old.items():
        user = name.removeprefix("trader-")
        assert _lets_in(user, _password(folder, name))
        assert not _lets_in(user, password)
        assert password not in said
        assert _password(folder, name) not in said
    # What replicas are asked with, and only the new one.
    assert docker(*AS_ADMIN, "CONFIG", "GET", "masterauth").split() == ["masterauth", _password(folder, "replica")]
    assert "connected_clients:1" in connected


def test_a_new_trader_is_let_in_without_a_restart(environment: dict[str, str], folder: Path) -> None:
    started = docker("inspect", "--format", "{{ .State.StartedAt }}", NODE)
    said = run_script({**environment, "TRADERS": "TRADER-009"}, "secrets")
    assert "redis-1 lets TRADER-009 in from now on" in said
    assert _lets_in("TRADER-009", _password(folder, "trader-TRADER-009"))
    assert docker("inspect", "--format", "{{ .State.StartedAt }}", NODE) == started


@pytest.mark.parametrize(
    "step", ["Both passwords are valid", "Everybody takes the new ones", "The old ones are removed"]
)
def test_an_interrupted_rotation_is_completed(step: str, environment: dict[str, str], folder: Path) -> None:
    old = _password(folder, "replica")
    with subprocess.Popen(
        [ROOT / "scripts/secrets", "rotate", "replica"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if step in line:
                os.killpg(process.pid, signal.SIGKILL)
    # Whoever starts now, or connects again, is let in with what its file says.
    assert _lets_in("replica", _password(folder, "replica"))
    run_script(environment, "secrets", "rotate", "replica")
    assert _lets_in("replica", _password(folder, "replica"))
    assert not _lets_in("replica", old)
    assert not list((folder / "rotation").iterdir())


def test_a_user_that_took_every_password_takes_one_again(environment: dict[str, str]) -> None:
    docker(*AS_ADMIN, "ACL", "SETUSER", "health", "nopass")
    assert _lets_in("health", "anything")
    run_script(environment, "secrets", "rotate", "health")
    assert not _lets_in("health", "anything")


def test_a_file_that_was_replaced_stops_the_rotation(environment: dict[str, str], folder: Path) -> None:
    path = folder / "passwords/replica"
    before = path.read_text()
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        path.write_text("0" * 64)
        path.chmod(0o600)
        with pytest.raises(
            AssertionError, match="error: redis-1 has another password file of replica than SECRETS_DIR="
        ):
            run_script(environment, "secrets", "rotate", "replica")
    finally:
        aside.replace(path)
    assert _lets_in("replica", before)
    assert not list((folder / "rotation").iterdir())


def test_nothing_changes_while_the_node_is_down(environment: dict[str, str], folder: Path) -> None:
    before = {path.name: path.read_text() for path in (folder / "passwords").iterdir()}
    docker("kill", NODE)
    try:
        with pytest.raises(AssertionError, match=r"error: redis-1 is down \(exited\)"):
            run_script(environment, "secrets", "rotate", "all")
    finally:
        docker("start", NODE)
    assert {path.name: path.read_text() for path in (folder / "passwords").iterdir()} == before
    wait_until(lambda: "PONG" in docker(*AS_ADMIN, "PING"), 20, "the node answers")


def test_a_password_reaches_no_process_list(environment: dict[str, str], folder: Path) -> None:
    """While it is rotated, every command line in the container and on this host is looked at."""
    seen: set[str] = set()
    with subprocess.Popen(
        [ROOT / "scripts/secrets", "rotate", "replica"],
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env=environment,
    ) as process:
        while True:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_text(errors="replace"))
                except OSError:
                    continue
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
                break
    assert any("cli.sh" in line for line in seen), "nothing was looked at"
    new = _password(folder, "replica")
    assert not [line for line in seen if new in line]
