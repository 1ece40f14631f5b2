"""What the drills do to containers, with a docker that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills import containers
from drills.stack import DockerError, Stack


def _docker(monkeypatch: pytest.MonkeyPatch, *errors: str) -> list[str]:
    """Replace docker by one that fails so often; returns what it is asked."""
    asked: list[str] = []

    def docker(*arguments: str) -> str:
        asked.append(" ".join(arguments))
        if len(asked) <= len(errors):
            raise DockerError(f"docker pause: Cannot pause container: {errors[len(asked) - 1]}")
        return ""

    monkeypatch.setattr(containers, "docker", docker)
    return asked


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path, environment={"COMPOSE_PROJECT_NAME": "p"})


def test_a_container_that_cannot_be_frozen_just_now_is_asked_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = "OCI runtime pause failed: unable to freeze: unknown"
    asked = _docker(monkeypatch, busy, busy)
    stack.pause("redis-1")
    assert asked == ["pause p-redis-1-1"] * 3


def test_any_other_refusal_is_one(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _docker(monkeypatch, "it is not running")
    with pytest.raises(DockerError, match="not running"):
        stack.pause("redis-1")
    assert len(asked) == 1
