"""Settings of a link."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .allowance import Allowance
from .journal_file import Fsync
from .login import Login
from .policy import OnGap, OnOom
from .url import Address, RedisTarget


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """Everything a link is told at its start. Times are in seconds, sizes in bytes."""

    target: RedisTarget
    #: Where clients connect.
    listen: Address
    #: Names the link in its marker; one link per id.
    link_id: str
    #: The hash that holds the marker. It has to match the key pattern of the link's ACL user.
    marker_key: str
    #: What clients have to log in with; None: nothing.
    login: Login | None = None
    #: Folder of the journal; None keeps it in memory only.
    journal_dir: Path | None = None
    fsync: Fsync = Fsync.EVERYSEC
    #: Bound of the journal in memory; clients wait while it is reached.
    journal_max_bytes: int = 256 << 20
    #: Age below which an entry is kept even if all nodes hold it: they may not have it on disk yet.
    journal_min_age: float = 60.0
    segment_bytes: int = 16 << 20
    #: Health, state and metrics over HTTP; None for none.
    http: Address | None = None
    #: The metrics alone, where a scraper on another host reaches them; None for none.
    metrics: Address | None = None
    #: A master that has not answered for so long is looked for elsewhere.
    response_timeout: float = 1.0
    connect_timeout: float = 0.5
    #: A master that was not heard for so long is asked for a sign of life.
    probe_interval: float = 0.5
    #: Bound of the wait for unfinished writes at SIGTERM.
    drain_timeout: float = 5.0
    #: Answer a write from the journal on disk when it has waited for so long; None: only when it is applied.
    acknowledge_held_after: float | None = None
    #: Number of databases that the server has.
    databases: int = 16
    #: What to do with a data set that cannot be made exact.
    on_gap: OnGap = OnGap.STOP
    #: What becomes of a write that Redis has no memory for.
    on_oom: OnOom = OnOom.REFUSE
    #: What the user allows beyond the guarantee.
    allowance: Allowance = field(default_factory=Allowance)
    #: A new journal takes over what another one has written without watching whether that one's link still runs.
    adopt: bool = False
    #: File that tells a container's health check how the link is; None for none.
    health_file: Path | None = None
    #: Ask a Sentinel for a failover before the Sentinels are sure by themselves; see ``force``.
    force_failover: bool = False
