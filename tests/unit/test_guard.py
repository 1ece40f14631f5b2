"""Which stacks a drill may break, and what people are told about the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from drills import guard
from drills.guard import ENVIRONMENT_LABEL, STARTED_BY_LABEL, Container, Facts, refuse
from drills.stack import SERVICES

OURS = {ENVIRONMENT_LABEL: "development", STARTED_BY_LABEL: "drill"}
THEIRS = {ENVIRONMENT_LABEL: "development"}


def stack(labels: dict[str, str] | None = None, **containers: Container) -> Facts:
    """A stack that is well; ``redis_2=Container(...)`` replaces one of its containers."""
    found = {service: Container(labels=OURS if labels is None else labels) for service in SERVICES}
    for name, container in containers.items():
        service = name.replace("_", "-")
        found[service] = replace(container, labels=found[service].labels)
    return Facts("shop", containers=found)


def test_a_stack_that_the_drills_started_may_be_broken() -> None:
    assert refuse(stack()) == ""


def test_a_strangers_stack_may_be_broken_only_when_named() -> None:
    found = stack(THEIRS)
    assert "was not started by the drills" in refuse(found)
    assert "--stack shop" in refuse(found)
    assert refuse(replace(found, named="shop")) == ""
    assert "--stack shop" in refuse(replace(found, named="shop-2"))


def test_one_container_of_another_origin_makes_it_a_strangers_stack() -> None:
    containers = dict(stack().containers)
    containers["redis-3"] = Container(labels=THEIRS)
    assert "redis-3 lacks their label" in refuse(Facts("shop", containers=containers))


@pytest.mark.parametrize("environment", ["production", "Production", " PROD", "prod-eu"])
@pytest.mark.parametrize("named", ["", "shop"])
@pytest.mark.parametrize("labels", [OURS, THEIRS])
def test_production_is_refused_whoever_started_or_named_it(
    labels: dict[str, str], named: str, environment: str
) -> None:
    found = replace(stack({**labels, ENVIRONMENT_LABEL: environment}), named=named)
    assert '"shop" is marked as production' in refuse(found)
    assert f"STACK_ENVIRONMENT={environment}" in refuse(found)


def test_one_service_in_production_is_enough() -> None:
    containers = dict(stack().containers)
    containers["sentinel-2"] = Container(labels={**OURS, ENVIRONMENT_LABEL: "production"})
    assert "production (sentinel-2" in refuse(Facts("shop", containers=containers))


def test_production_is_said_even_if_the_stack_is_unwell() -> None:
    found = stack({**OURS, ENVIRONMENT_LABEL: "production"}, redis_2=Container(running=False))
    assert "production" in refuse(found)


@pytest.mark.parametrize("environment", ["development", "staging", "non-production", ""])
def test_other_environments_may_be_broken(environment: str) -> None:
    assert refuse(stack({**OURS, ENVIRONMENT_LABEL: environment})) == ""


def test_a_stack_that_does_not_run() -> None:
    assert '"shop" does not run: start it with ./scripts/up' in refuse(Facts("shop", named="shop"))


def test_a_stack_without_failover() -> None:
    found = stack()
    single = {service: found.containers[service] for service in ("redis-1", "trader")}
    assert "it has no redis-2, redis-3, sentinel-1, sentinel-2, sentinel-3" in refuse(replace(found, containers=single))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (stack(redis_2=Container(running=False, health="unhealthy")), "redis-2 does not run"),
        (stack(sentinel_1=Container(running=False)), "sentinel-1 does not run"),
        (stack(redis_3=Container(paused=True)), "redis-3 is paused"),
        (stack(trader=Container(health="unhealthy", says="no fill for 20 s")), "the trader is unhealthy (no fill for"),
        (stack(redis_1=Container(health="starting")), "redis-1 is starting"),
        (stack(redis_1=Container(health="")), "redis-1 is without a healthcheck"),
        (
            replace(stack(), lacking="no failover possible: sentinel-1 says: NOQUORUM"),
            "no failover possible: sentinel-1 says: NOQUORUM",
        ),
        (replace(stack(), link="halted", link_reason="another link writes"), "link: halted: another link writes"),
        (replace(stack(), link="holding"), "link: holding"),
        (replace(stack(), link="", link_reason="connection refused"), "link: no answer (connection refused)"),
    ],
)
def test_a_stack_that_is_unwell_is_named_with_what_is_wrong(found: Facts, words: str) -> None:
    said = refuse(found)
    assert words in said
    assert '"shop"' in said
    assert "./scripts/drill --heal" in said
    assert "\n" not in said
    assert words in refuse(replace(found, named="shop")), "naming it does not make it well"


def test_the_cause_is_said_before_its_consequences() -> None:
    """A trader whose link has halted is unhealthy, and its stack may be whole."""
    found = stack(trader=Container(health="unhealthy", says="link halted"))
    assert "link: halted: marker gone" in refuse(replace(found, link="halted", link_reason="marker gone"))


class FakeStack:
    """Answers of a stack; ``broken``: the trader's link does not answer."""

    project = "shop"
    services = SERVICES

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken

    def lacking(self) -> str:
        return "no Sentinel answers"

    def link(self) -> dict[str, str]:
        if self.broken:
            raise RuntimeError("docker exec:\n connection refused")
        return {"state": "ready", "reason": ""}


def docker_state(**state: Any) -> dict[str, Any]:
    health = {"Status": "healthy", "Log": [{"Output": "old"}, {"Output": "RUNNING,\n all well\n"}]}
    return {
        "State": {"Running": True, "Paused": False, "Health": health, **state},
        "Config": {"Labels": dict(OURS)},
    }


def gather(monkeypatch: pytest.MonkeyPatch, stack: FakeStack, **states: dict[str, Any]) -> Facts:
    found = {service: docker_state() for service in SERVICES} | states
    monkeypatch.setattr(guard, "containers_of", lambda project: found if project == "shop" else {})
    return guard.facts(stack, "shop")  # type: ignore[arg-type]


def test_facts_are_what_docker_redis_and_the_link_say(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gather(monkeypatch, FakeStack())
    assert found.named == found.project == "shop"
    assert found.containers["trader"] == Container(says="RUNNING, all well", labels=OURS)
    assert (found.lacking, found.link) == ("no Sentinel answers", "ready")


def test_facts_of_a_link_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gather(monkeypatch, FakeStack(broken=True))
    assert (found.link, found.link_reason) == ("", "docker exec: connection refused")


def test_a_stack_with_a_stopped_container_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gather(monkeypatch, FakeStack(broken=True), trader=docker_state(Running=False, Health=None))
    assert found.containers["trader"] == Container(running=False, health="", labels=OURS)
    assert found.lacking == ""
    assert "trader does not run" in refuse(found)
