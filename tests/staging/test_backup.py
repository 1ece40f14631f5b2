"""Backups of the staging template: with TLS and logins, of several traders; and back from one, in place."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from drills.records import compare_trader
from drills.stack import NODES, SENTINELS, Stack
from tests import backups
from tests.backups import LONGEST_WRITE, Taken, check_contents, settings_of
from tests.stacks import ROOT, run_script

_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


@pytest.fixture
def settings(stack: Stack, environment: dict[str, str]) -> dict[str, str]:
    return {**settings_of(stack), "SECRETS_DIR": environment["SECRETS_DIR"]}


@pytest.fixture
def taken(stack: Stack, settings: dict[str, str], tmp_path: Path) -> Taken:
    return backups.take(stack, tmp_path, settings)


def test_backup_under_live_trading_holds_every_position_and_order(
    stack: Stack, taken: Taken, settings: dict[str, str]
) -> None:
    assert taken.manifest["node"]["role"] == "replica"
    assert taken.longest_write < LONGEST_WRITE
    assert "is whole" in run_script(settings, "backup", "verify", str(taken.folder))
    with backups.loaded(stack, taken.folder) as container:
        print(check_contents(backups.inspect_loaded(stack, container), taken))
    secrets = [path for path in Path(settings["SECRETS_DIR"]).rglob("passwords/*") if path.is_file()]
    assert secrets
    for path in taken.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [secret.name for secret in secrets if secret.read_bytes().strip() in data], path


@pytest.mark.long
def test_restore_in_place_and_the_journals_lose_nothing(stack: Stack, taken: Taken, settings: dict[str, str]) -> None:
    known = stack.report()
    stack.wait_for_writes(3)
    said = run_script(settings, "restore", str(taken.folder), "--replace", "--yes")
    assert "nodes hold what the backup holds" in said
    assert said.count("its link sends again what came after it") == len(taken.manifest["aof"]["traders"])
    assert stack.master() == "redis-1"
    stack.wait_until_well(60)
    assert stack.link()["replayed"] > 0
    compared = compare_trader(stack, known)
    assert compared.exact, f"{compared}: {compared.differences[:20]}"
    assert all(_put_aside(stack).values())
    _documented(stack, "rm -rf /v/before-restore-*")
    assert not any(_put_aside(stack).values())


def _put_aside(stack: Stack) -> dict[str, str]:
    """Return what a restore has put aside, by node and Sentinel."""
    look = "ls -d /data/before-restore-* 2>/dev/null || true"
    return {server: stack.execute(server, "sh", "-c", look) for server in (*NODES, *SENTINELS)}


def _documented(stack: Stack, part: str) -> None:
    """Run the commands of the block of docs/backup.md that holds ``part``, on this stack."""
    (block,) = [text for text in _BLOCK.findall((ROOT / "docs/backup.md").read_text()) if part in text]
    tag = settings_of(stack)["IMAGE_TAG"]
    script = block.replace("nautilus-redis-ha_", f"{stack.project}_").replace("redis:local", f"redis:{tag}")
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True)
