"""Fixtures that break a stack under a strategy of the user's own; how to use them is in ``docs/drills-in-ci.md``.

pytest-docker is not used here: its fixtures hold one set of Compose files per session, which is the user's to choose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

import pytest

from .outages import NoEffectError, Outage, Outages, UnavailableError
from .own_stack import UserError, Wanted, check, checkout, ensure_engine, existing, expect_well, running
from .proofs import LiveLedger, MismatchError, Positions
from .stack import DockerError, Stack

_PROJECT = "nautilus-redis-ha-ci"
#: Errors that tell everything in their message.
_PLAIN = (UserError, NoEffectError, DockerError, TimeoutError, SubprocessError, MismatchError)
#: Option, whether it is a path, help.
_SETTINGS = (
    ("root", True, "the checkout with the Compose files; needed unless the package was installed from it with -e"),
    ("config", True, "the JSON file of your trading node, as for ./scripts/up --config; without it the paper market"),
    ("code", True, "the directory with the modules that it names; default: the directory of the JSON file"),
    ("project", False, f"name of the stack that is started for the tests; default: {_PROJECT}"),
    ("stack", False, "break this running stack, by name, instead of one that is started for the tests"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each also as a setting of the pytest configuration file."""
    group = parser.getgroup("ha", "Redis with failover under a trading node")
    for name, _, text in _SETTINGS:
        group.addoption(f"--ha-{name}", dest=f"ha_{name}", metavar=name.upper(), help=text)
        parser.addini(f"ha_{name}", text)
    group.addoption("--ha-keep", action="store_true", help="leave the stack running at the end")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse settings that cannot work before any test runs."""
    try:
        check(_wanted(config, Path()))
        if config.getoption("ha_root") or config.getini("ha_root"):
            _root(config)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def ha_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack with failover, which trades: a :class:`drills.stack.Stack`."""
    config = request.config
    with _plainly():
        if hasattr(config, "workerinput"):
            raise UserError("ha_stack: tests that break one stack cannot run in several processes; leave out -n")
        root = _root(config)
        ensure_engine()
    name, say = _text(config, "ha_stack"), _announce(config)
    with ExitStack() as resources:
        with _plainly():
            source = existing(root, name, say) if name else running(_wanted(config, root), say)
            stack = resources.enter_context(source)
        yield stack


@pytest.fixture
def outages(ha_stack: Stack) -> Iterator[Outages]:
    """Everything that this test breaks; whole before it, and healed after it."""
    made = Outages(ha_stack)
    with _plainly():
        expect_well(ha_stack)
    yield made
    with _plainly():
        made.heal()


@pytest.fixture
def fault(outages: Outages) -> Callable[[str], Outage]:
    """``fault(name)`` makes one of the faults that ``./scripts/drill`` lists."""

    def make(name: str) -> Outage:
        with _plainly():
            return outages.named(name)

    return make


@pytest.fixture
def kill_master(fault: Callable[[str], Outage]) -> Callable[[], Outage]:
    """``kill_master()`` kills the master and returns when another one is promoted."""
    return lambda: fault("kill-master")


@pytest.fixture
def freeze_master(fault: Callable[[str], Outage]) -> Callable[[], Outage]:
    """``freeze_master()`` stops the master's processes without ending them, until another one is promoted."""
    return lambda: fault("freeze-master")


@pytest.fixture
def partition(outages: Outages) -> Callable[..., Outage]:
    """``partition()`` cuts the master off from all other containers, ``partition("trader")`` another service."""

    def cut_off(service: str = "") -> Outage:
        with _plainly():
            return outages.partition(service)

    return cut_off


@pytest.fixture
def ledger(outages: Outages) -> Iterator[LiveLedger]:
    """Appends from an independent client while the test runs; ``ledger.check()`` compares every one of them."""
    with ExitStack() as resources:
        with _plainly():
            appends = resources.enter_context(LiveLedger(outages))
        yield appends


@pytest.fixture
def positions(outages: Outages) -> Positions:
    """The node's own record; ``positions.check()`` compares it with every Redis node."""
    with _plainly():
        return Positions(outages)


def _wanted(config: pytest.Config, root: Path) -> Wanted:
    node, code = _path(config, "ha_config"), _path(config, "ha_code")
    return Wanted(
        root=root,
        project=_text(config, "ha_project") or _PROJECT,
        config=node,
        code=code or (node.parent if node else None),
        keep=config.getoption("ha_keep"),
    )


def _root(config: pytest.Config) -> Path:
    return checkout(_path(config, "ha_root"))


def _text(config: pytest.Config, name: str) -> str:
    return config.getoption(name) or config.getini(name)


def _path(config: pytest.Config, name: str) -> Path | None:
    """Return a path: on the command line relative to the directory it was typed in, else to the settings file."""
    typed, written = config.getoption(name), config.getini(name)
    if typed:
        return Path(os.path.normpath(config.invocation_params.dir / typed))
    if written:
        base = config.inipath.parent if config.inipath else config.rootpath
        return Path(os.path.normpath(base / written))
    return None


def _announce(config: pytest.Config) -> Callable[[str], None]:
    """Return what prints the steps of a start, which may take minutes, though the output of tests is captured."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled() if capture else ExitStack():
            print(f"\nha_stack: {text}", end="", flush=True)

    return say


@contextmanager
def _plainly() -> Iterator[None]:
    """Turn errors whose message says everything into a failure of that one line."""
    try:
        yield
    except UnavailableError as error:
        raise pytest.skip.Exception(str(error)) from None
    except _PLAIN as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
