"""Every nemesis once under live traffic: what was acknowledged is in Redis exactly once and in order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.appender import volume
from drills.campaign import Field
from drills.nemeses import NEMESES, Nemesis
from drills.network import allowed

#: Each is a variant of one of the others; ./scripts/test --long has them too.
VARIANTS = {
    "kill, back as master",
    "brief freeze",
    "older AOF, link killed",
    "replicas frozen",
    "partition: master alone",
    "partition: link alone",
    "partition: answers only",
    "two failovers in a row",
    "Sentinels restarted in an outage",
    "link terminated in an outage",
    "link frozen through a failover",
    "FLUSHALL by a client",
}


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    if not allowed():
        pytest.fail("hosts of their own need the capabilities NET_ADMIN and SYS_ADMIN: run ./scripts/test")
    with Field(tmp_path_factory.mktemp("field") / "field", volume(2000), random.Random(1)) as field:  # noqa: S311
        yield field


@pytest.mark.parametrize(
    "nemesis",
    [
        pytest.param(nemesis, id=nemesis.name, marks=[pytest.mark.long] if nemesis.name in VARIANTS else [])
        for nemesis in NEMESES
    ],
)
def test_nothing_is_lost_doubled_or_reordered(field: Field, nemesis: type[Nemesis], tmp_path: Path) -> None:
    # Masters that stop accepting on their own and masters that do not, in turn.
    field.cluster.set_min_replicas(list(NEMESES).index(nemesis) % 2)
    result = field.strike(nemesis)
    print(result)
    if not result.good:
        print(field.link.log.read_text()[-6000:])
    assert result.good, result


def test_every_node_holds_the_same_at_the_end(field: Field) -> None:
    result = field.finish()
    assert result.good, result
    assert result.compared > 0
