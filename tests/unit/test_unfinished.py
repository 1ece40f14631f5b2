"""One run of drills at a time, and what a killed one leaves behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from drills.interrupts import uninterrupted
from drills.unfinished import BusyError, Unfinished


def test_a_second_run_is_told_to_wait(tmp_path: Path) -> None:
    with Unfinished(tmp_path, "p"), pytest.raises(BusyError, match='"p"'), Unfinished(tmp_path, "p"):
        pass
    with Unfinished(tmp_path, "p"), Unfinished(tmp_path, "other"):
        pass


def test_a_killed_run_leaves_its_drill_behind(tmp_path: Path) -> None:
    with Unfinished(tmp_path, "p") as first:
        assert first.left == ""
        first.begin("kill-master")
    with Unfinished(tmp_path, "p") as second:
        assert second.left == "kill-master"
        second.healed()
    with Unfinished(tmp_path, "p") as third:
        assert third.left == ""


def test_a_torn_note_counts_as_well(tmp_path: Path) -> None:
    (tmp_path / "drill-p.json").write_text("{")
    with Unfinished(tmp_path, "p") as run:
        assert run.left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_the_healing(number: int) -> None:
    said: list[str] = []
    reached = False
    with pytest.raises(KeyboardInterrupt), uninterrupted(said.append):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        reached = True
    assert reached
    assert len(said) == 2
