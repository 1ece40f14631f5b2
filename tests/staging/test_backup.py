"""Backups of the staging template: with TLS and logins, of several traders; and back from one, in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.records import compare_trader
from drills.stack import Stack
from tests import backups
from tests.backups import LONGEST_WRITE, Taken, check_contents, settings_of
from tests.stacks import run_script


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
