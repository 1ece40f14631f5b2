"""What the example strategy decides: bounded, hedged, reproducible."""

# ruff: noqa: S311 - dice of a simulation

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from trader_node.decisions import Decision, Holding, Intent, Limits, decide

INSTRUMENTS = ("A.PAPER", "B.PAPER")
LIMITS = Limits(target_open=6, max_open=10, max_lots=8)

holdings = st.lists(
    st.builds(
        Holding,
        id=st.uuids().map(str),
        instrument_id=st.sampled_from(INSTRUMENTS),
        long=st.booleans(),
        lots=st.integers(1, 12),
    ),
    max_size=30,
)


@given(book=holdings, seed=st.integers())
def test_a_decision_can_always_be_carried_out(book: list[Holding], seed: int) -> None:
    decision = decide(Random(seed), INSTRUMENTS, book, LIMITS)
    assert decision == decide(Random(seed), INSTRUMENTS, book, LIMITS)
    assert decision.lots > 0
    assert decision.instrument_id in INSTRUMENTS
    holding = decision.holding
    match decision.intent:
        case Intent.OPEN:
            assert holding is None
            assert len(book) < LIMITS.max_open
        case Intent.ADD:
            assert holding in book and decision.buy == holding.long
            assert holding.lots < LIMITS.max_lots
        case Intent.REDUCE:
            assert holding in book and decision.buy != holding.long
            assert decision.lots < holding.lots
        case Intent.CLOSE:
            assert holding in book and decision.buy != holding.long
            assert decision.lots == holding.lots


def _apply(book: list[Holding], decision: Decision, step: int) -> list[Holding]:
    if decision.holding is None:
        return [*book, Holding(str(step), decision.instrument_id, decision.buy, decision.lots)]
    lots = decision.holding.lots + (decision.lots if decision.intent is Intent.ADD else -decision.lots)
    return [replace(h, lots=lots) if h is decision.holding else h for h in book if h is not decision.holding or lots]


def test_the_book_settles_at_its_target_and_turns_over() -> None:
    book: list[Holding] = []
    sizes, seen, intents = [], set(), dict.fromkeys(Intent, 0)
    for step in range(5000):
        decision = decide(Random(f"1:{step}"), INSTRUMENTS, book, LIMITS)
        book = _apply(book, decision, step)
        intents[decision.intent] += 1
        sizes.append(len(book))
        seen.update(h.id for h in book)
        assert max((h.lots for h in book), default=0) <= LIMITS.max_lots + 3
    assert max(sizes) <= LIMITS.max_open
    assert LIMITS.target_open / 2 < sum(sizes[100:]) / len(sizes[100:]) < LIMITS.max_open
    assert all(count > 200 for count in intents.values())
    assert len(seen) > 1000
    # Nothing stays for ever: what is open now was opened lately.
    assert min(int(h.id) for h in book) > 4000


def test_a_book_that_is_too_large_shrinks() -> None:
    book = [Holding(str(i), "A.PAPER", bool(i % 2), 2) for i in range(30)]
    for step in range(25):
        book = _apply(book, decide(Random(f"2:{step}"), INSTRUMENTS, book, LIMITS), 100 + step)
    assert len(book) <= LIMITS.max_open


def test_a_new_position_hedges_what_its_instrument_holds() -> None:
    book = [Holding("1", "A.PAPER", True, 5)]
    for seed in range(200):
        decision = decide(Random(seed), ("A.PAPER",), book, LIMITS)
        if decision.intent is Intent.OPEN:
            assert not decision.buy
