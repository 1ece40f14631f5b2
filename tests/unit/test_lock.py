"""scripts/lib/lock.sh: one command at a time changes a stack."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBS = 'for lib in log settings lock; do . "scripts/lib/$lib.sh"; done; LOCKS_DIR=$1; '
#: A command that has the lock, and one beside it: no child of the first one, and with another TMPDIR.
BESIDE = 'take_lock; env --unset STACK_LOCKED TMPDIR=/elsewhere bash -euc "$2" bash "$1"'


def _bash(script: str, folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-euc", LIBS + script, "bash", str(folder), *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "COMPOSE_PROJECT_NAME": "one", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_second_command_is_told_to_wait(tmp_path: Path) -> None:
    code, said = _bash(BESIDE, tmp_path, LIBS + "take_lock; echo taken")
    assert (code, said.splitlines()) == (
        1,
        [
            'error: another command is changing the stack "one" at the moment',
            "       wait until it has finished",
        ],
    )
    assert _bash("take_lock; echo taken", tmp_path) == (0, "taken\n"), "not free after its end"


def test_another_stack_is_nobodys_business(tmp_path: Path) -> None:
    assert _bash(BESIDE, tmp_path, LIBS + "COMPOSE_PROJECT_NAME=two; take_lock; echo taken") == (0, "taken\n")


def test_a_command_works_under_the_lock_of_the_one_that_started_it(tmp_path: Path) -> None:
    script = 'take_lock; bash -euc "$2" bash "$1"'
    assert _bash(script, tmp_path, LIBS + "take_lock; take_lock; echo taken") == (0, "taken\n")


def test_others_can_take_it_too(tmp_path: Path) -> None:
    assert _bash("umask 077; take_lock", tmp_path)[0] == 0
    (lock,) = tmp_path.iterdir()
    assert lock.stat().st_mode & 0o777 == 0o644
    lock.chmod(0o444)
    assert _bash("take_lock; echo taken", tmp_path) == (0, "taken\n")


def test_a_lock_that_cannot_be_made_gets_one_clear_line(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    assert _bash("take_lock", folder) == (
        1,
        f"error: the lock {folder}/one.operation.lock cannot be made\n       check who may write to {folder}\n",
    )
