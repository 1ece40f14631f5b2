"""What ``test_rules`` needs: rules, and how to run a scenario with and without one of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import test_journal_file, test_sequencer, test_session

Patch = pytest.MonkeyPatch
Scenario = Callable[..., None]


@dataclass(frozen=True)
class Rule:
    """One rule of the link, and how to see that it is there."""

    #: The hole that it closes.
    hole: str
    rule: str
    #: Passes as the link is, and must fail by an assertion without the rule.
    scenario: Scenario
    #: Takes the rule out, and nothing else.
    without: Callable[[Patch], None]

    def __str__(self) -> str:
        return f"{self.hole}: {self.rule}".replace(" ", "-")


def of(scenario: Scenario, **arguments: Any) -> Scenario:
    """Return a scenario with arguments of its own; its fixtures are looked up by their names."""

    def run(**fixtures: Any) -> None:
        scenario(**arguments, **fixtures)

    names = [name for name in inspect.signature(scenario).parameters if name not in arguments]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    )
    return run


def every(*scenarios: Scenario) -> Scenario:
    """Return a scenario that runs several, each with fixtures of its own; its only fixture is a folder."""

    def run(tmp_path: Path) -> None:
        for number, scenario in enumerate(scenarios):
            folder = tmp_path / str(number)
            folder.mkdir()
            play(scenario, folder)

    return run


def play(scenario: Scenario, tmp_path: Path) -> None:
    """Run a scenario with the fixtures that it names."""
    names = inspect.signature(scenario).parameters
    fixtures: dict[str, Any] = {}
    if "tmp_path" in names:
        fixtures["tmp_path"] = tmp_path
    if "story" in names:
        fixtures["story"] = test_sequencer.Story()
        fixtures["story"].connect()
    if "hub" in names or "client" in names:
        hub = test_session.Hub()
        fixtures |= {name: made for name, made in (("hub", hub), ("client", test_session.Client(hub))) if name in names}
    with _folder(tmp_path) as folder:
        if "folder" in names:
            fixtures["folder"] = folder
        assert names.keys() == fixtures.keys(), f"unknown fixtures: {names.keys() - fixtures.keys()}"
        scenario(**fixtures)


@contextmanager
def _folder(path: Path) -> Iterator[test_journal_file.Folder]:
    folder = test_journal_file.Folder(path / "journal")
    try:
        yield folder
    finally:
        if folder.file is not None:
            folder.crash()


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> Callable[[Patch], None]:
    """Return a patch under which ``owner.name`` is ``around(original, ...)``."""

    def patch(monkeypatch: Patch) -> None:
        original = getattr(owner, name)

        def replaced(*arguments: Any, **named: Any) -> Any:
            return around(original, *arguments, **named)

        monkeypatch.setattr(owner, name, replaced)

    return patch


def put(owner: Any, name: str, value: Any) -> Callable[[Patch], None]:
    """Return a patch that puts something else in the place of ``owner.name``."""
    return lambda monkeypatch: monkeypatch.setattr(owner, name, value)


def both(*patches: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Return several patches as one."""

    def patch(monkeypatch: Patch) -> None:
        for each in patches:
            each(monkeypatch)

    return patch
