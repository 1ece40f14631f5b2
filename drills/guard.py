"""Whether a drill may break a stack: none in production, a stranger's only if named, none that is unwell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .stack import SERVICES, Stack, containers_of
from .trader import TRADER
from .waiting import PASSING

#: Labels of every service, from compose/base.yaml and compose/drill.yaml.
ENVIRONMENT_LABEL = "nautilus-redis-ha.environment"
STARTED_BY_LABEL = "nautilus-redis-ha.started-by"


@dataclass(frozen=True, slots=True)
class Container:
    """What Docker says of one service's container."""

    running: bool = True
    paused: bool = False
    #: Docker's word: healthy, unhealthy, starting; empty where there is no healthcheck.
    health: str = "healthy"
    #: What the healthcheck said last.
    says: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the decision is made from."""

    project: str
    #: The project that --stack named; empty if nobody did.
    named: str = ""
    #: What the stack must have.
    services: Sequence[str] = SERVICES
    #: By service.
    containers: Mapping[str, Container] = field(default_factory=dict)
    #: What keeps the stack from failing over, in words.
    lacking: str = ""
    #: State of the trader's link, and why; empty if it does not answer.
    link: str = "ready"
    link_reason: str = ""


def refuse(found: Facts) -> str:
    """Return why the drills must not touch a stack, in one line that says what to do; empty if they may."""
    return forbidden(found) or _unwell(found)


def forbidden(found: Facts) -> str:
    """Return why nobody may let the drills touch a stack, not even to heal it; empty if they may."""
    stack = f'the stack "{found.project}"'
    if not found.containers:
        return (
            f"{stack} does not run: start it with ./scripts/up, or leave out --stack and ./scripts/drill starts its own"
        )
    for service, container in sorted(found.containers.items()):
        environment = container.labels.get(ENVIRONMENT_LABEL, "")
        if environment.strip().casefold().startswith("prod"):
            return (
                f"{stack} is marked as production ({service} has STACK_ENVIRONMENT={environment}), and drills never "
                "touch that: run them on another stack (without --stack they start their own)"
            )
    strange = [
        service for service, container in sorted(found.containers.items()) if not _started_by_drill(container.labels)
    ]
    if strange and found.named != found.project:
        return (
            f"{stack} was not started by the drills ({strange[0]} lacks their label): if it may be broken under its "
            f"traffic, name it with --stack {found.project}"
        )
    return ""


def _started_by_drill(labels: Mapping[str, str]) -> bool:
    return labels.get(STARTED_BY_LABEL) == "drill"


def _unwell(found: Facts) -> str:
    wrong = _ailment(found)
    if not wrong:
        return ""
    return (
        f'the stack "{found.project}" is not well before anything was broken: {wrong}; look at ./scripts/status, and '
        "if a drill left it like this: ./scripts/drill --heal"
    )


def _ailment(found: Facts) -> str:
    absent = [service for service in found.services if service not in found.containers]
    if absent:
        return f"it has no {', '.join(absent)} (drills need the stack with failover)"
    for service in found.services:
        container = found.containers[service]
        if not container.running:
            return f"{service} does not run"
        if container.paused:
            return f"{service} is paused"
    if found.link == "halted":
        return f"link: halted: {found.link_reason}"
    if found.lacking:
        return found.lacking
    for service in found.services:
        container = found.containers[service]
        if container.health != "healthy":
            name = "the trader" if service == TRADER else service
            return f"{name} is {container.health or 'without a healthcheck'}" + _saying(container.says)
    if found.link != "ready":
        return f"link: {found.link or 'no answer'}" + _saying(found.link_reason)
    return ""


def _saying(words: str) -> str:
    return f" ({words})" if words else ""


def facts(stack: Stack, named: str = "") -> Facts:
    """Ask Docker, Redis and the link for everything that :func:`refuse` needs to know; it changes nothing."""
    # Whatever else has the project's name, tests for example, is no part of the stack.
    services = stack.services
    containers = {
        service: _container(state) for service, state in containers_of(stack.project).items() if service in services
    }
    link, reason, lacking = "", "", ""
    # Those of a stack that is down would only be waited for.
    if all(service in containers and containers[service].running for service in services):
        lacking = stack.lacking()
        try:
            status = stack.link()
        except PASSING as error:
            reason = " ".join(str(error).split())[-200:]
        else:
            link, reason = str(status["state"]), str(status["reason"])
    return Facts(stack.project, named, services, containers, lacking, link, reason)


def _container(state: Mapping[str, Any]) -> Container:
    current = state["State"]
    health = current.get("Health") or {}
    log = health.get("Log") or []
    return Container(
        running=bool(current["Running"]),
        paused=bool(current["Paused"]),
        health=str(health.get("Status", "")),
        says=" ".join(str(log[-1]["Output"]).split())[:200] if log else "",
        labels=state["Config"]["Labels"],
    )
