"""The synthetic market: reproducible, plausible, bounded."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import pytest

from trader_node.instruments import CATALOGUE, UnknownInstrumentError, select
from trader_node.quotes import Quote, QuoteStream


def _quotes(name: str, seed: int, count: int, elapsed: float = 0.2) -> list[Quote]:
    stream = QuoteStream(CATALOGUE[name].model, name, seed)
    return [stream.next(elapsed) for _ in range(count)]


def test_the_seed_decides_everything() -> None:
    assert _quotes("BTCUSDT-PERP.PAPER", 1, 200) == _quotes("BTCUSDT-PERP.PAPER", 1, 200)
    assert _quotes("BTCUSDT-PERP.PAPER", 1, 200) != _quotes("BTCUSDT-PERP.PAPER", 2, 200)


def test_the_quotes_of_a_seed_do_not_change_between_versions_and_machines() -> None:
    first = _quotes("BTCUSDT-PERP.PAPER", 7, 1)[0]
    assert first == Quote(965066, 965067, 50, 46)


def test_instruments_move_independently() -> None:
    first = [q.bid_ticks for q in _quotes("EURUSD.PAPER", 1, 50)]
    second = [q.bid_ticks for q in _quotes("GBPUSD.PAPER", 1, 50)]
    steps = [(b > a) == (d > c) for a, b, c, d in zip(first, first[1:], second, second[1:], strict=False)]
    assert 0 < sum(steps) < len(steps)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_quotes_are_plausible(name: str) -> None:
    model = CATALOGUE[name].model
    quotes = _quotes(name, 3, 5000)
    assert all(q.ask_ticks - q.bid_ticks >= model.spread_ticks for q in quotes)
    assert all(min(q.bid_lots, q.ask_lots) >= model.least_depth_lots for q in quotes)
    mids = [(q.bid_ticks + q.ask_ticks) / 2 * model.tick for q in quotes]
    assert all(abs(mid / model.reference - 1) < 0.1 for mid in mids)
    assert len(set(mids)) > 10


def test_the_volatility_is_the_given_one() -> None:
    model = CATALOGUE["BTCUSDT-PERP.PAPER"].model
    mids = [q.bid_ticks + q.ask_ticks for q in _quotes("BTCUSDT-PERP.PAPER", 5, 4000, elapsed=60.0)]
    steps = [math.log(b / a) for a, b in pairwise(mids)]
    yearly = statistics.stdev(steps) * math.sqrt(365 * 24 * 60)
    assert yearly == pytest.approx(model.volatility, rel=0.1)


def test_the_price_returns_to_its_reference() -> None:
    model = CATALOGUE["SOLUSDT-PERP.PAPER"].model
    year = _quotes("SOLUSDT-PERP.PAPER", 9, 20_000, elapsed=1800.0)
    assert all(abs(q.bid_ticks * model.tick / model.reference - 1) < 0.1 for q in year)


def test_time_must_go_on() -> None:
    stream = QuoteStream(CATALOGUE["EURUSD.PAPER"].model, "EURUSD.PAPER", 1)
    with pytest.raises(ValueError, match="positive"):
        stream.next(0.0)


def test_an_unknown_instrument_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownInstrumentError, match=r"'X\.Y'.*BTCUSDT-PERP\.PAPER"):
        select(["EURUSD.PAPER", "X.Y"])


def test_ticks_and_lots_are_exact_in_nautilus_types() -> None:
    for spec in CATALOGUE.values():
        instrument = spec.build(0)
        assert str(instrument.id) == spec.id
        for quote in _quotes(spec.id, 1, 100):
            price = instrument.make_price(quote.bid_ticks * spec.model.tick)
            assert round(price.as_double() / spec.model.tick) == quote.bid_ticks
            size = instrument.make_qty(quote.bid_lots * spec.model.lot)
            assert round(size.as_double() / spec.model.lot) == quote.bid_lots
