"""What the sizes of a stack are computed from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drills.sizing import Sample, Weights, refusal, slope, summarize, table

WEIGHTS = Weights(800.0, 1200.0, 1500.0, 300.0, 700.0)


def samples(count: int = 121) -> list[Sample]:
    """Ten minutes at 20 orders a second, one sample every 5 s."""
    first = Sample(1000.0, 0, 0, 0, 10**6, 0, 2 * 10**8, 5 * 10**7, 0, 0, 0, 0)
    return [
        replace(
            first,
            at=1000.0 + 5 * index,
            orders=100 * index,
            positions=50 * index,
            positions_open=20,
            used_memory=10**6 + 100 * index * 3500,
            aof_written=100 * index * 6000,
            # Its first minute is another slope.
            node_resident=2 * 10**8 + 100 * index * 9000 + (10**7 if index >= 12 else 0),
            journal=1000 * (index % 7),
            trader_sent=100 * index * 8000,
        )
        for index in range(count)
    ]


def test_sizes_per_order() -> None:
    sizes = summarize(samples(), WEIGHTS)
    assert sizes.minutes == 10.0
    assert sizes.orders == 12_000
    assert sizes.orders_per_second == 20.0
    assert sizes.redis_memory_per_order == 3500.0
    assert sizes.node_memory_per_order == pytest.approx(9000.0)
    assert sizes.aof_per_order == 6000.0
    assert sizes.aof_mib_per_hour == pytest.approx(20 * 3600 * 6000 / 2**20)
    assert sizes.journal_largest == 6000
    assert sizes.trader_sent_per_order == 8000.0
    assert "| an order in Redis (its list of events) | 1,500 B |" in table(sizes)
    assert table(sizes).startswith("Measured for 10.0 minutes: 12,000 orders")


def test_no_number_without_orders() -> None:
    idle = [replace(sample, orders=5) for sample in samples()]
    with pytest.raises(ValueError, match="nothing to measure"):
        summarize(idle, WEIGHTS)
    with pytest.raises(ValueError, match="nothing to measure"):
        summarize(samples(2), WEIGHTS)


def test_slope() -> None:
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == 2.0
    assert slope([(1.0, 1.0), (1.0, 3.0)]) == 0.0


@pytest.mark.parametrize(("keeps", "good"), [("0", True), ("10", False), ("", False), (None, False)])
def test_a_node_that_forgets_is_not_measured(keeps: str | None, good: bool) -> None:
    environment = {} if keeps is None else {"TRADER_KEEP_CLOSED_MINUTES": keeps}
    assert (refusal(environment) == "") is good
