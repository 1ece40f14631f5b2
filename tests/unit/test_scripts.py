"""The operator's commands as drills run them: what they print, how they fail, and that none is left behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from drills.scripts import run_script


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with one command, which does what its first argument says."""
    (tmp_path / "scripts").mkdir()
    command = tmp_path / "scripts" / "command"
    command.write_text('#!/bin/sh\neval "$1"\n')
    command.chmod(0o755)
    return tmp_path


def test_all_that_it_prints_is_returned_and_told_as_it_comes(root: Path) -> None:
    told: list[tuple[str, float]] = []
    said = run_script(
        root,
        {"NAME": "value", "PATH": "/usr/bin:/bin"},
        "command",
        'echo "$NAME"; sleep 0.3; echo two >&2',
        says=lambda line: told.append((line, time.monotonic())),
    )
    assert said == "value\ntwo\n"
    assert [line for line, _ in told] == ["value\n", "two\n"]
    assert told[1][1] - told[0][1] > 0.2


def test_failure_is_an_error_with_what_it_said(root: Path) -> None:
    with pytest.raises(RuntimeError, match=r"\./scripts/command echo wrong; exit 3 failed: wrong"):
        run_script(root, {"PATH": "/usr/bin:/bin"}, "command", "echo wrong; exit 3")


def test_one_that_takes_too_long_is_ended_with_its_children(root: Path) -> None:
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="failed: begun"):
        run_script(root, {"PATH": "/usr/bin:/bin"}, "command", "echo begun; sleep 60; echo done", seconds=0.3)
    assert time.monotonic() - began < 30


def test_an_interruption_ends_it_and_waits_for_its_end(root: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    ended = root / "ended"
    with pytest.raises(KeyboardInterrupt):
        run_script(
            root,
            {"PATH": "/usr/bin:/bin"},
            "command",
            f"trap 'echo yes >{ended}; exit 1' TERM; echo begun; while :; do sleep 0.1; done",
            says=interrupt,
        )
    assert ended.read_text() == "yes\n"
