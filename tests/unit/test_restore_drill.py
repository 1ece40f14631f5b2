"""The drill that loses all disks: it begins only where it can end, and keeps the backup while that is all there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drills import images
from drills.faults import restore
from drills.stack import Stack


class FakeStack:
    """As much of a stack as the drill needs, with nothing behind it."""

    project, image, root = "fake", "fake/redis", Path("/fake")

    def __init__(self, *files: str) -> None:
        label = {"com.docker.compose.project.config_files": ",".join(files)}
        self._found = {
            "redis-1": {"Name": "/fake-redis-1-1", "State": {"StartedAt": "then"}, "Config": {"Labels": label}}
        }

    def containers(self) -> dict[str, Any]:
        return self._found

    def container(self, service: str) -> str:
        return f"fake-{service}-1"

    def master(self) -> str:
        return "redis-1"

    def marker(self, _: str) -> tuple[str, int]:
        return "owner", 7

    def start_times(self) -> dict[str, str]:
        return {"redis-1": "then"}

    def kill(self, *_: str) -> None:
        pass

    def ensure_running(self, *_: str) -> None:
        pass


def test_a_stack_that_restore_could_not_start_again_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "refuse_recreation", lambda *_: "")
    monkeypatch.setattr(FakeStack, "root", tmp_path)
    (tmp_path / "compose").mkdir()
    for name in ("compose.yaml", "compose/base.yaml", "compose/staging.yaml"):
        (tmp_path / name).touch()

    def refused(*files: str) -> str:
        return restore.Restore.unavailable(_as_stack(FakeStack(*(f"{tmp_path}/{file}" for file in files))))

    assert refused("compose.yaml", "compose/base.yaml") == ""
    assert refused("compose/base.yaml", "compose/staging.yaml") == ""
    assert f"{tmp_path}/tests/overlay.yaml" in refused("compose/base.yaml", "tests/overlay.yaml")


@pytest.mark.parametrize("succeeds", [True, False])
def test_the_backup_stays_as_long_as_it_is_all_there_is(
    succeeds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: Stack, name: str, *arguments: str, **__: Any) -> str:
        if name == "backup":
            (Path(arguments[-1]) / "taken").mkdir()
        elif not succeeds:
            raise RuntimeError("./scripts/restore failed: no room")
        return "done"

    monkeypatch.setattr(restore, "run_on", run)
    monkeypatch.setattr(restore, "docker", lambda *_, **__: "")
    monkeypatch.setattr(images, "configured_tag", lambda _: "local")
    monkeypatch.setattr(restore.tempfile, "tempdir", str(tmp_path))
    fault = restore.Restore(_as_stack(FakeStack()))
    fault.prepare()
    (backup,) = tmp_path.glob("restore-drill-*/taken")
    fault.inject()
    with pytest.raises(RuntimeError, match="not started anew" if succeeds else f"the backup stays, {backup}"):
        fault.confirm()
    fault.heal()
    assert backup.exists() is not succeeds


def _as_stack(fake: FakeStack) -> Any:
    return fake
