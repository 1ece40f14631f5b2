"""A stack of one's own for the length of a test run: started by ``./scripts/up``, gone with all its data at the end."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .guard import facts, forbidden, refuse
from .healing import heal_everything
from .stack import NODES, SENTINELS, DockerError, Stack, docker, port_variable
from .unfinished import BusyError, Unfinished
from .waiting import wait_until

#: Below 32768: the kernel gives ports above to outgoing connections.
_FIRST_PORTS = {node: 16500 + index for index, node in enumerate(NODES)} | {
    sentinel: 26500 + index for index, sentinel in enumerate(SENTINELS)
}
_ATTEMPTS = 50
#: Seconds until healthchecks have noticed what was started or healed.
_WELL = 60.0
_HEALED = 120.0
_SUBNETS = tuple(f"172.28.{number}" for number in range(120, 200))
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")
#: What every checkout has and an installed package has not.
_OF_A_CHECKOUT = ("compose/base.yaml", "compose/drill.yaml", "scripts/up", "scripts/down")


class UserError(Exception):
    """A setting or an environment that cannot work; the message says what to do in one line."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a stack is to be made of."""

    #: The checkout with the Compose files and scripts.
    root: Path
    project: str
    #: The user's own node, and the directory with its modules; None: the paper market.
    config: Path | None = None
    code: Path | None = None
    #: Leave it running at the end.
    keep: bool = False


def checkout(given: Path | None) -> Path:
    """Return the root of the checkout: ``given``, or that of an editable install.

    Raises
    ------
    UserError
        If there is none.

    """
    root = given or Path(__file__).resolve().parents[1]
    absent = [name for name in _OF_A_CHECKOUT if not (root / name).is_file()]
    if absent and given:
        raise UserError(f"ha_root = {given} is no checkout of nautilus-redis-ha: it has no {absent[0]}")
    if absent:
        raise UserError(
            "the stack's Compose files are not in an installed package: install from a checkout with "
            "`pip install -e CHECKOUT`, or name the checkout with --ha-root (or ha_root in the pytest settings)"
        )
    return root


def check(wanted: Wanted) -> None:
    """Raise ``UserError`` if that cannot become a stack; nothing is started."""
    if not _PROJECT.fullmatch(wanted.project):
        raise UserError(f"ha_project = {wanted.project!r}: a project name has only a-z, 0-9, - and _")
    if wanted.config is not None and not wanted.config.is_file():
        raise UserError(f"ha_config = {wanted.config}: no such file; give the JSON file of your node")
    if wanted.code is not None and not wanted.code.is_dir():
        raise UserError(f"ha_code = {wanted.code}: no such directory; give the one with the modules of your node")
    if wanted.code is not None and wanted.config is None:
        raise UserError(f"ha_code = {wanted.code} without ha_config: give the JSON file of your node as well")


@contextmanager
def running(wanted: Wanted, say: Callable[[str], None]) -> Iterator[Stack]:
    """Start a stack and yield it; in the end it is removed with its volumes, unless it is to be kept.

    ``say`` gets each step, one line. Images are built if they are missing or outdated.

    Raises
    ------
    UserError
        If it does not start; with the reason that ``./scripts/up`` gave.

    """
    check(wanted)
    ensure_engine()
    with _held(wanted.root, wanted.project):
        try:
            # From nothing: what an interrupted run left behind would be another test's data.
            _script(wanted, "down", {}, say, "--volumes", "--yes")
            own = [
                part
                for name in ("config", "code")
                if (path := getattr(wanted, name))
                for part in (f"--{name}", str(path))
            ]
            _script(wanted, "up", _addresses(), say, "--drill", *own)
            yield Stack.discover(wanted.root, wanted.project)
        finally:
            if wanted.keep:
                name = wanted.project
                say(f'"{name}" is kept; it goes with: COMPOSE_PROJECT_NAME={name} ./scripts/down --volumes')
            else:
                _script(wanted, "down", {}, say, "--volumes", "--yes")


@contextmanager
def existing(root: Path, project: str, say: Callable[[str], None]) -> Iterator[Stack]:
    """Yield the stack that runs under a name, to be broken though it was not started for that.

    Raises
    ------
    UserError
        If it does not run, is marked as production, is not well, or somebody else is breaking it.

    """
    try:
        stack = Stack.discover(root, project)
    except DockerError as error:
        raise UserError(f"ha_stack = {project}: {error}") from None
    with _held(root, project) as unfinished:
        _refuse(forbidden(facts(stack, project)), project)
        if unfinished.left:
            say(f"an earlier run ended during {unfinished.left}: healing what it broke")
            heal_everything(stack, _HEALED)
        _refuse(refuse(facts(stack, project)), project)
        unfinished.begin("tests by pytest")
        yield stack
        if not refuse(facts(stack, project)):
            unfinished.healed()


@contextmanager
def _held(root: Path, project: str) -> Iterator[Unfinished]:
    try:
        with Unfinished(root / "build", project) as unfinished:
            yield unfinished
    except BusyError:
        raise UserError(
            f'another run breaks the stack "{project}": wait for it, or name another one with --ha-project'
        ) from None


def _refuse(reason: str, project: str) -> None:
    if reason:
        # Said of the command's option.
        raise UserError(f"ha_stack = {project}: {reason.replace('--stack', '--ha-stack')}")


def expect_well(stack: Stack) -> None:
    """Wait until a stack is well. Raises ``UserError`` if it is not, or must not be broken."""
    with suppress(TimeoutError):
        wait_until(lambda: not refuse(facts(stack, stack.project)), _WELL, "the stack is well", 0.5)
        return
    raise UserError(refuse(facts(stack, stack.project)))


def ensure_engine() -> None:
    """Raise ``UserError`` if no Docker engine answers."""
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout=20)
    except FileNotFoundError:
        raise UserError("there is no docker command: install Docker Engine and its Compose plugin") from None
    except (DockerError, subprocess.TimeoutExpired) as error:
        last = str(error).strip().splitlines()[-1]
        raise UserError(f"no Docker engine answers ({last}): start it, and allow your user to use it") from None


def _script(
    wanted: Wanted, name: str, environment: dict[str, str], say: Callable[[str], None], *arguments: str
) -> None:
    process = subprocess.Popen(
        [str(wanted.root / "scripts" / name), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment, "COMPOSE_PROJECT_NAME": wanted.project},
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("==> "):
            say(line[4:].rstrip())
    if process.wait():
        raise UserError(_reason(lines) or f"./scripts/{name} failed with status {process.returncode}")


def _reason(lines: list[str]) -> str:
    """Return what a script said about its failure, in one line."""
    for index, line in enumerate(lines):
        if line.startswith("error: "):
            advice = [after.strip() for after in lines[index + 1 :] if after.startswith("       ")]
            return "; ".join([line.removeprefix("error: "), *advice])
    return next((line for line in reversed(lines) if line.strip()), "")


def _addresses() -> dict[str, str]:
    """Return settings for a subnet and ports that nobody uses."""
    shift = next((shift for shift in range(0, 3 * _ATTEMPTS, 3) if all(map(_free, _ports(shift).values()))), None)
    if shift is None:
        raise UserError("found no six free ports on 127.0.0.1 between 16500 and 26652")
    taken = _networks()
    subnet = next((prefix for prefix in _SUBNETS if not _overlaps(prefix, taken)), None)
    if subnet is None:
        raise UserError(
            "every subnet from 172.28.120.0/24 to 172.28.199.0/24 is taken by a Docker network: remove unused ones"
        )
    return {"SUBNET_PREFIX": subnet} | {port_variable(service): str(port) for service, port in _ports(shift).items()}


def _ports(shift: int) -> dict[str, int]:
    return {service: port + shift for service, port in _FIRST_PORTS.items()}


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As the engine binds it: what only waits out its last connection is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _networks() -> list[ipaddress.IPv4Network]:
    names = docker("network", "ls", "--quiet").split()
    template = "{{ range .IPAM.Config }}{{ .Subnet }} {{ end }}"
    found = docker("network", "inspect", "--format", template, *names).split() if names else []
    return [ipaddress.IPv4Network(subnet, strict=False) for subnet in found if ":" not in subnet]


def _overlaps(prefix: str, taken: list[ipaddress.IPv4Network]) -> bool:
    subnet = ipaddress.IPv4Network(f"{prefix}.0/24")
    return any(subnet.overlaps(other) for other in taken)
