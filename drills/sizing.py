"""``python -m drills.sizing``: what a running stack needs for each order and position, measured, as a table.

Start it so that the node forgets nothing, or what it forgets is missing in every number:

    TRADER_KEEP_CLOSED_MINUTES=0 ./scripts/up
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .stack import NODES, DockerError, Stack
from .waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
#: Seconds between two looks, and for a rewrite of the AOF.
_LOOK = 5.0
_REWRITE = 120.0
#: A memory that is still filling its first blocks says nothing about growth: seconds left out at the start.
_WARM_UP = 60.0
#: Runs in the trader's container: resident memory of its processes, its journal, and what its network card has carried.
_PROBE = """
import json, pathlib
memory = {}
for directory in pathlib.Path("/proc").iterdir():
    try:
        command = (directory / "cmdline").read_bytes().split(bytes(1))
        lines = (directory / "status").read_text().splitlines()
    except OSError:
        continue
    resident = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")]
    if not resident or not any(b"trader_node" in part for part in command):
        continue
    name = "link" if any(b"trader_node.link" in part for part in command) else "node"
    memory[name] = max(memory.get(name, 0), resident[0])
journal = sum(file.stat().st_size for file in pathlib.Path("/var/lib/trader").glob("*/journal/*") if file.is_file())
card = next(line for line in open("/proc/net/dev") if line.strip().startswith("eth0")).split(":")[1].split()
print(json.dumps({"node": memory.get("node", 0), "link": memory.get("link", 0), "journal": journal,
                  "received": int(card[0]), "sent": int(card[8])}))
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the stack; memory, files and traffic in bytes, times in seconds."""

    at: float
    orders: int
    positions: int
    positions_open: int
    #: Of the master: without what its clients and the replication buffers take.
    used_memory: int
    #: All that was ever written to its AOF since the first look, rewrites left out.
    aof_written: int
    node_resident: int
    link_resident: int
    journal: int
    trader_sent: int
    trader_received: int
    #: Sent by the master to everybody, replicas included.
    master_sent: int


@dataclass(frozen=True, slots=True)
class Weights:
    """Mean ``MEMORY USAGE`` in bytes, by what a key holds; the indexes per order."""

    position_open: float
    position_closed: float
    order: float
    indexes_per_order: float
    #: Of the whole data set in a rewritten AOF, per order.
    rewritten_per_order: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """The result: bytes, if the name says nothing else."""

    minutes: float
    orders: int
    orders_per_second: float
    positions: int
    positions_open: int
    position_open: float
    position_closed: float
    order: float
    indexes_per_order: float
    redis_memory_per_order: float
    node_memory_per_order: float
    link_memory_growth: float
    aof_per_order: float
    aof_mib_per_hour: float
    rewritten_per_order: float
    journal_largest: int
    trader_sent_per_order: float
    trader_received_per_order: float
    master_sent_per_order: float


def summarize(samples: Sequence[Sample], weights: Weights) -> Sizes:
    """Return the sizes that a row of samples shows.

    Raises
    ------
    ValueError
        If there are too few samples, or no order was made: no number could be trusted.

    """
    first, last = samples[0], samples[-1]
    orders, seconds = last.orders - first.orders, last.at - first.at
    if len(samples) < 3 or orders <= 0:
        raise ValueError(f"{orders} orders in {len(samples)} samples: nothing to measure")
    steady = [sample for sample in samples if sample.at >= first.at + _WARM_UP] or list(samples)
    written = last.aof_written - first.aof_written
    return Sizes(
        minutes=seconds / 60,
        orders=orders,
        orders_per_second=orders / seconds,
        positions=last.positions,
        positions_open=last.positions_open,
        position_open=weights.position_open,
        position_closed=weights.position_closed,
        order=weights.order,
        indexes_per_order=weights.indexes_per_order,
        redis_memory_per_order=(last.used_memory - first.used_memory) / orders,
        node_memory_per_order=slope([(sample.orders, sample.node_resident) for sample in steady]),
        link_memory_growth=slope([(sample.at / 3600, sample.link_resident) for sample in steady]),
        aof_per_order=written / orders,
        aof_mib_per_hour=written / seconds * 3600 / 2**20,
        rewritten_per_order=weights.rewritten_per_order,
        journal_largest=max(sample.journal for sample in samples),
        trader_sent_per_order=(last.trader_sent - first.trader_sent) / orders,
        trader_received_per_order=(last.trader_received - first.trader_received) / orders,
        master_sent_per_order=(last.master_sent - first.master_sent) / orders,
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the straight line that fits points best; 0 if they all have the same place."""
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def table(sizes: Sizes) -> str:
    """Return the sizes as a table in Markdown."""
    rows = {
        "an open position in Redis (its list of fills)": _bytes(sizes.position_open),
        "a closed position in Redis": _bytes(sizes.position_closed),
        "an order in Redis (its list of events)": _bytes(sizes.order),
        "indexes in Redis, per order": _bytes(sizes.indexes_per_order),
        "Redis memory per order, all told (`used_memory`)": _bytes(sizes.redis_memory_per_order),
        "memory of the trading node per order": _bytes(sizes.node_memory_per_order),
        "memory of the link, growth per hour": _bytes(sizes.link_memory_growth),
        "AOF per order, before a rewrite": _bytes(sizes.aof_per_order),
        f"AOF per hour at {sizes.orders_per_second:.1f} orders/s": f"{sizes.aof_mib_per_hour:,.0f} MiB before rewrites",
        "AOF per order, rewritten": _bytes(sizes.rewritten_per_order),
        "journal of the link, at its largest": _bytes(sizes.journal_largest),
        "network, trader to master, per order": _bytes(sizes.trader_sent_per_order),
        "network, to the trader, per order": _bytes(sizes.trader_received_per_order),
        "network, master to everybody, per order": _bytes(sizes.master_sent_per_order),
    }
    lines = [
        f"Measured for {sizes.minutes:.1f} minutes: {sizes.orders:,} orders at {sizes.orders_per_second:.1f}/s; "
        f"{sizes.positions:,} positions at the end, {sizes.positions_open:,} of them open.",
        "",
        "| what | size |",
        "| --- | ---: |",
        *(f"| {what} | {size} |" for what, size in rows.items()),
    ]
    return "\n".join(lines)


def _bytes(number: float) -> str:
    return f"{number / 2**20:,.1f} MiB" if abs(number) >= 2**20 else f"{number:,.0f} B"


class Gauge:
    """Looks at a running stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._master = stack.master()
        self._replica = next(node for node in NODES if node != self._master)
        self._prefix = f"trader-{stack.trader_id}:"
        self._aof_size: int | None = None
        self._aof_written = 0

    def look(self) -> Sample:
        """Take a sample. Raises ``RuntimeError`` if the master has changed: counters would not fit together."""
        if self._stack.master() != self._master:
            raise RuntimeError(f"{self._master} is not the master any more: measure again")
        client = self._stack.client(self._master, 5.0)
        info: dict[str, Any] = client.info("everything")
        size = int(info["aof_current_size"])
        # A rewrite makes it smaller, which is no growth.
        if self._aof_size is not None:
            self._aof_written += max(0, size - self._aof_size)
        self._aof_size = size
        orders, positions, opened = (
            int(client.scard(f"{self._prefix}index:{name}"))  # type: ignore[arg-type]
            for name in ("orders", "positions", "positions_open")
        )
        probe = json.loads(self._stack.execute("trader", "python", "-c", _PROBE))
        buffers = ("mem_clients_normal", "mem_clients_slaves", "mem_total_replication_buffers", "mem_aof_buffer")
        return Sample(
            at=time.monotonic(),
            orders=orders,
            positions=positions,
            positions_open=opened,
            used_memory=int(info["used_memory"]) - sum(int(info.get(name, 0)) for name in buffers),
            aof_written=self._aof_written,
            node_resident=probe["node"],
            link_resident=probe["link"],
            journal=probe["journal"],
            trader_sent=probe["sent"],
            trader_received=probe["received"],
            master_sent=int(info["total_net_output_bytes"]) + int(info.get("total_net_repl_output_bytes", 0)),
        )

    def weigh(self) -> Weights:
        """Weigh every key, and rewrite the AOF; on a replica, which nobody waits for."""
        client = self._stack.client(self._replica, 30.0)
        opened = set(client.smembers(f"{self._prefix}index:positions_open"))  # type: ignore[arg-type]
        totals: dict[str, list[int]] = {"open": [], "closed": [], "order": [], "index": []}
        for key, weight in self._weights(client):
            kind, _, name = key.removeprefix(self._prefix).partition(":")
            if kind == "positions":
                totals["open" if name in opened else "closed"].append(weight)
            elif kind == "orders":
                totals["order"].append(weight)
            elif kind == "index":
                totals["index"].append(weight)
        orders = len(totals["order"])
        if not orders:
            raise RuntimeError(f"{self._replica} holds no order of {self._stack.trader_id}")
        client.bgrewriteaof()

        def rewritten() -> bool:
            info: dict[str, Any] = client.info("persistence")
            return not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

        wait_until(rewritten, _REWRITE, f"{self._replica} has rewritten its AOF", 0.5)
        info: dict[str, Any] = client.info("persistence")
        return Weights(
            position_open=_mean(totals["open"]),
            position_closed=_mean(totals["closed"]),
            order=_mean(totals["order"]),
            indexes_per_order=sum(totals["index"]) / orders,
            rewritten_per_order=int(info["aof_base_size"]) / orders,
        )

    def _weights(self, client: Any) -> Iterator[tuple[str, int]]:
        batch: list[str] = []
        for key in client.scan_iter(f"{self._prefix}*", count=1000):
            batch.append(key)
            if len(batch) == 500:
                yield from self._weigh(client, batch)
                batch = []
        yield from self._weigh(client, batch)

    def _weigh(self, client: Any, keys: list[str]) -> Iterator[tuple[str, int]]:
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            # Every element: samples of a list of unequal events would miss.
            pipeline.memory_usage(key, samples=0)
        yield from ((key, weight) for key, weight in zip(keys, pipeline.execute(), strict=True) if weight)


def _mean(numbers: Sequence[int]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def refusal(environment: Mapping[str, str]) -> str:
    """Return why the numbers of a trader with this environment would be wrong; empty if they would not."""
    if environment.get("TRADER_KEEP_CLOSED_MINUTES", "") in ("0", "0.0"):
        return ""
    return (
        "the trader forgets closed orders and positions, so the sizes would be those of some minutes: "
        "start the stack with TRADER_KEEP_CLOSED_MINUTES=0"
    )


def main(
    stack: Annotated[str, typer.Option(help="project name of the running stack")] = "nautilus-redis-ha",
    minutes: Annotated[float, typer.Option(min=0.5, help="for how long")] = 10.0,
    report: Annotated[Path | None, typer.Option(help="folder for sizing.json, every sample included")] = None,
) -> None:
    """Measure what a running stack needs for each order and position."""
    console = Console(highlight=False, width=140)
    try:
        found = Stack.discover(ROOT, stack)
        reason = refusal(found.environment_of("trader"))
        if reason:
            raise DockerError(reason)
    except DockerError as error:
        console.print(f"sizing: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    gauge = Gauge(found)
    samples = [gauge.look()]
    end = samples[0].at + minutes * 60
    while samples[-1].at < end:
        time.sleep(min(_LOOK, max(0.0, end - time.monotonic())))
        samples.append(gauge.look())
    sizes = summarize(samples, gauge.weigh())
    console.print(table(sizes), markup=False, soft_wrap=True)
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        content = {"sizes": asdict(sizes), "samples": [asdict(sample) for sample in samples]}
        (report / "sizing.json").write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    typer.run(main)
