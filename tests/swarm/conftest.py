"""Three hosts, and the staging stack on them: one for all tests of a session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from drills.stack import DockerError
from tests.stacks import Journal, run_script

from .hosts import NUMBERS, Hosts
from .swarm_stack import SwarmStack

#: The host on which the trader runs first. Not the first one: that one has the first master.
TRADER_HOST = 2
_OPTIONS = ("--staging",)
_TAG = os.environ.get("IMAGE_TAG", "local")
_IMAGES = tuple(f"nautilus-redis-ha/{name}:{_TAG}" for name in ("redis", "trader"))


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """Three hosts in a swarm, with the images and labels, without a stack."""
    prefix = os.environ.get("TEST_SWARM_SUBNET_PREFIX", "172.28.97")
    hosts = Hosts("nautilus-redis-ha-swarm-host", prefix, f"nautilus-redis-ha/swarm-host:{_TAG}")
    try:
        hosts.up(_IMAGES)
        hosts.label(TRADER_HOST, "redis-ha.trader=yes")
        yield hosts
    finally:
        hosts.remove()


@pytest.fixture(scope="session")
def swarm_stack(
    hosts: Hosts, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, journal: Journal
) -> Iterator[SwarmStack]:
    """The staging stack, deployed."""
    settings = {
        "SECRETS_DIR": str(tmp_path_factory.mktemp("secrets")),
        # Sentinels name nodes by the addresses of their hosts.
        "CERTS_EXTRA_NAMES": ",".join(f"IP:{hosts.address(number)}" for number in NUMBERS),
    }
    for script in ("secrets", "certs"):
        run_script({**os.environ, **settings}, script)
    stack = SwarmStack(hosts, _OPTIONS, settings)
    try:
        journal.add(stack.deploy(TRADER_HOST).strip().splitlines()[-1].strip())
        stack.wait_until_whole(TRADER_HOST)
        yield stack
    finally:
        if request.session.testsfailed:
            _print_logs(stack)


@pytest.fixture
def stack(swarm_stack: SwarmStack) -> SwarmStack:
    """The stack, whole and trading before the test."""
    trader = _trader_host(swarm_stack)
    swarm_stack.wait_until_whole(trader)
    swarm_stack.wait_for_orders(trader, swarm_stack.report(trader), count=3)
    return swarm_stack


def _trader_host(stack: SwarmStack) -> int:
    return next(number for number in NUMBERS if stack.has("trader", number))


def _print_logs(stack: SwarmStack) -> None:
    for number in NUMBERS:
        for service in (f"redis-{number}", f"sentinel-{number}", "trader"):
            try:
                log = stack.hosts.docker(number, "logs", "--tail", "40", stack.container(service, number))
            except (DockerError, RuntimeError) as error:
                log = str(error)
            print(f"--- {service} on host {number}\n{log}")


_journal = Journal()


@pytest.fixture(scope="session")
def journal() -> Journal:
    return _journal


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _journal.summarize(terminalreporter)
