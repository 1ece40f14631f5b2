"""What a drill found, as it is written to ``drills.json``; the schema of that file is made from these classes.

All times are seconds: ``at``, ``began`` and ``ended`` since the start of the drill (its first traffic), the others
durations. ``docs/drills.schema.json`` is made by ``python -m drills.results``; a field is only ever added, or
:data:`SCHEMA_VERSION` rises.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
#: Length of a bucket of the timeline, in seconds.
BUCKET = 0.1


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Phase(_Model):
    """A part of a drill: before the fault, until it is healed, until all is whole again, and some time after that."""

    name: Literal["steady", "fault", "recovery", "after"]
    began: float
    ended: float
    #: Operations of the appender that were acknowledged in it.
    acknowledged: int = 0


class Check(_Model):
    """One condition of the verdict."""

    name: str
    passed: bool
    #: What was found, and against what.
    detail: str


class AppenderCounts(_Model):
    """The independent appender: what was asked of Redis, and how that compares with what every node holds."""

    acknowledged: int = 0
    failed: int = 0
    indeterminate: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    #: In Redis though nobody asked, or though the client was told that it failed.
    phantom: int = 0
    #: Sent again by the appender's link because a master lacked it.
    replayed: int = 0


class TraderCounts(_Model):
    """The trading node's own record, compared with what every node of Redis holds."""

    positions: int = 0
    orders: int = 0
    fills: int = 0
    accounts: int = 0
    #: Orders that the node made while the fault lasted.
    orders_during_fault: int = 0
    #: Known before the fault, or to the node now, and not in Redis.
    lost: int = 0
    #: In both, and not equal.
    wrong: int = 0
    #: In Redis, and unknown to the node.
    phantom: int = 0
    #: The same event more than once.
    duplicated: int = 0
    replayed: int = 0


class Availability(_Model):
    """How long writes waited. None: it did not happen, or was not to."""

    longest_stall: float = 0.0
    #: From the fault until another node says that it is the master.
    promotion: float | None = None
    #: From the fault to the acknowledgement of the first write that was sent after it.
    first_write: float | None = None
    #: From the fault, and from the healing, until there is one master with two replicas in sync and every Sentinel is
    #: able to fail over.
    redundancy: float | None = None
    redundancy_after_heal: float | None = None


class Bucket(_Model):
    """The appender's operations that were acknowledged in one tenth of a second."""

    at: float
    acknowledged: int
    #: Milliseconds from sending to the acknowledgement.
    median_ms: float
    longest_ms: float


class NodeSpan(_Model):
    """What a Redis node said of itself, over a time."""

    node: str
    began: float
    ended: float
    state: Literal["master", "replica", "silent"]


class Event(_Model):
    """Something that happened: what a Sentinel published, or the drill did."""

    at: float
    #: ``drill``, ``sentinel-1``, ``link`` ...
    source: str
    #: ``+switch-master``, ``inject``, ``heal`` ...
    kind: str
    text: str = ""


class DrillResult(_Model):
    """One run of one drill."""

    name: str
    summary: str
    #: Which repetition of the drill it was, from 1.
    repetition: int = 1
    status: Literal["passed", "failed", "skipped"] = "failed"
    #: Why it was skipped or failed; empty if it passed.
    reason: str = ""
    #: ISO 8601, UTC.
    started: str
    duration: float = 0.0
    #: How it was seen that the fault took effect.
    effect: str = ""
    phases: list[Phase] = Field(default_factory=list)
    checks: list[Check] = Field(default_factory=list)
    appender: AppenderCounts = Field(default_factory=AppenderCounts)
    trader: TraderCounts = Field(default_factory=TraderCounts)
    availability: Availability = Field(default_factory=Availability)
    timeline: list[Bucket] = Field(default_factory=list)
    nodes: list[NodeSpan] = Field(default_factory=list)
    events: list[Event] = Field(default_factory=list)


class Environment(_Model):
    """Where the drills ran."""

    project: str
    redis_version: str
    docker_version: str
    kernel: str
    cpus: int
    trader_id: str


class DrillReport(_Model):
    """Everything that one ``./scripts/drill`` did."""

    schema_version: int = SCHEMA_VERSION
    #: Draws the order and whatever a fault chooses.
    seed: int
    started: str
    duration: float = 0.0
    environment: Environment
    drills: list[DrillResult] = Field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether something ran and nothing failed."""
        return any(drill.status == "passed" for drill in self.drills) and not any(
            drill.status == "failed" for drill in self.drills
        )


def schema() -> str:
    """Return the JSON schema of the report."""
    return json.dumps(DrillReport.model_json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
