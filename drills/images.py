"""Which Redis image the containers of a stack run, and the others that drills replace it by."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from .scripts import run_on
from .stack import NODES, SENTINELS, Stack, docker

#: Everything that runs Redis.
REDIS_SERVICES = (*NODES, *SENTINELS)
_UPGRADE = "-upgrade"
_CLOCK = "-clock"
_ROOT = Path(__file__).resolve().parents[1]
#: Seconds for pulling a base and building on it.
_BUILD = 900.0
_BUILD_SCRIPT = """
set -euo pipefail
for lib in log settings compose apt engine bases images; do . "scripts/lib/$lib.sh"; done
use_overlay drill
ensure_images "$1"
"""


def configured_tag(stack: Stack) -> str:
    """Return the tag with which the stack was started: that of the trader, whose image no drill changes."""
    name = str(stack.inspect_container("trader")["Config"]["Image"])
    return name.rpartition(":")[2]


def upgrade_tag(stack: Stack) -> str:
    """Return the tag of the other Redis image."""
    return configured_tag(stack) + _UPGRADE


def image_name(tag: str) -> str:
    """Return the name of the Redis image with a tag."""
    return f"nautilus-redis-ha/redis:{tag}"


def build_upgrade(stack: Stack) -> None:
    """Build the other image, unless it is there already: its base is UPGRADE_REDIS_IMAGE, see compose/drill.yaml.

    Raises
    ------
    RuntimeError
        If it cannot be built, or its data could not be read by the stack's image and the other way round.

    """
    _build(stack, "redis-upgrade")
    name = image_name(upgrade_tag(stack))
    said = docker("run", "--rm", "--network", "none", "--entrypoint", "redis-server", name, "--version")
    other = next(word[2:] for word in said.split() if word.startswith("v="))
    refusal = refuse_upgrade(redis_version(stack, NODES[0]), other)
    if refusal:
        raise RuntimeError(refusal)


def clock_tag(stack: Stack) -> str:
    """Return the tag of the Redis image with a clock that can jump."""
    return configured_tag(stack) + _CLOCK


def build_clock(stack: Stack) -> None:
    """Build the image with a clock that can jump, unless it is there. Raises ``RuntimeError`` if that fails."""
    _build(stack, "redis-clock")


def _build(stack: Stack, service: str) -> None:
    done = subprocess.run(
        ["bash", "-c", _BUILD_SCRIPT, "bash", service],  # noqa: S607
        cwd=_ROOT,
        env={**stack.environment, "IMAGE_TAG": configured_tag(stack)},
        capture_output=True,
        text=True,
        timeout=_BUILD,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(f"the image of {service} could not be built: {done.stderr.strip()[-1000:]}")


def refuse_upgrade(running: str, other: str) -> str:
    """Return why a stack cannot go from one version of Redis to another and back; empty if it can.

    Data files and the copies for replicas carry the version of the RDB format: 10 of Redis 7.0, 11 of 7.2, 12 of 7.4.
    An older server refuses newer ones, so there is a way forth, and none back.
    """
    if running.split(".")[:2] == other.split(".")[:2]:
        return ""
    series = ".".join(running.split(".")[:2])
    return (
        f"the stack runs Redis {running}, and UPGRADE_REDIS_IMAGE is Redis {other}: one of them cannot read what the "
        f"other writes, so there is no way there and back; set UPGRADE_REDIS_IMAGE to another image of Redis {series}"
    )


def image_of(container: dict[str, Any]) -> str:
    """Return the id of a container's image."""
    return str(container["Image"])


def image_id(tag: str) -> str:
    """Return the id of the Redis image with a tag."""
    return docker("image", "inspect", "--format", "{{.Id}}", image_name(tag)).strip()


def redis_version(stack: Stack, service: str) -> str:
    """Return the version that a node or a Sentinel says it runs."""
    return str(stack.client(service).info("server")["redis_version"])


def recreate(stack: Stack, service: str, tag: str) -> None:
    """Replace a service's container by one of the image with a tag; its volume, address and settings stay."""
    environment = {"IMAGE_TAG": tag}
    stack.compose("up", "--detach", "--no-deps", "--no-build", service, environment=environment)


def roll_out(stack: Stack, services: Collection[str], tag: str) -> None:
    """Replace the containers of services so, one by one and the master's after a switchover (``./scripts/rollout``)."""
    run_on(stack, "rollout", "--no-build", *services, environment={"IMAGE_TAG": tag})


def refuse_recreation(stack: Stack, services: Iterable[str] = REDIS_SERVICES) -> str:
    """Return why containers must not be recreated from here: they would lose settings. Empty if they may."""
    wanted = dict(
        line.split()
        for line in stack.compose(
            "config", "--hash", "*", environment={"IMAGE_TAG": configured_tag(stack)}
        ).splitlines()
    )
    found = stack.containers()
    label = "com.docker.compose.config-hash"
    hashes = {service: found[service]["Config"]["Labels"].get(label) for service in services}
    changed = [service for service, of_now in hashes.items() if of_now != wanted.get(service)]
    if not changed:
        return ""
    return (
        f"{changed[0]} was started with other settings than those here, and would lose them when it is recreated: "
        "give ./scripts/drill the settings (environment or .env) with which the stack was started"
    )


def upgraded(stack: Stack) -> list[str]:
    """Return the services that do not run the image with which the stack was started, or whose container is gone."""
    wanted = image_name(configured_tag(stack))
    found = stack.containers()
    return [
        service for service in REDIS_SERVICES if service not in found or found[service]["Config"]["Image"] != wanted
    ]


def restore(stack: Stack) -> list[str]:
    """Bring the configured image back to whatever runs another one, one by one; return these services."""
    services = upgraded(stack)
    if services:
        roll_out(stack, services, configured_tag(stack))
    return services
