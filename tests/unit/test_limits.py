"""The file of thresholds: what it may say, and what a mistake in it is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.faults import FAULTS
from drills.limits import LimitsError, read_limits

ROOT = Path(__file__).resolve().parents[2]


def read(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "drills.toml"
    path.write_text(text)
    return dict(read_limits(path, ["kill-master", "freeze-master"]))


def test_the_committed_file_allows_no_difference() -> None:
    for limits in read_limits(ROOT / "drills.toml", FAULTS).values():
        assert (limits.lost, limits.duplicated, limits.reordered, limits.phantom, limits.wrong) == (0, 0, 0, 0, 0)


def test_a_drill_of_its_own_overrides_the_default(tmp_path: Path) -> None:
    found = read_limits_of(tmp_path)
    assert found["kill-master"].longest_stall == 3.0
    assert found["freeze-master"].longest_stall == 5.0
    assert found["kill-master"].lost == 2


def read_limits_of(tmp_path: Path):  # type: ignore[no-untyped-def]
    return read(tmp_path, "[default]\nlongest_stall = 5\nlost = 2\n[drills.kill-master]\nlongest_stall = 3.0\n")


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        ("[default]\nlongest_stal = 5\n", ["longest_stal"]),
        ("[default]\nlost = -1\n", ["lost"]),
        ("[default]\nlost = 0.5\n", ["lost"]),
        ('[default]\nlongest_stall = "soon"\n', ["longest_stall"]),
        ("[drills.kill-mister]\nlost = 1\n", ["kill-mister", "./scripts/drill"]),
        ("[defaults]\nlost = 1\n", ["defaults"]),
        ("[default\n", ["drills.toml"]),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, needles: list[str]) -> None:
    with pytest.raises(LimitsError) as error:
        read(tmp_path, text)
    assert all(needle in str(error.value) for needle in [*needles, "drills.toml"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LimitsError, match="--limits"):
        read_limits(tmp_path / "nowhere.toml", ["kill-master"])
