"""The instruments of the paper market: what they are, and how their quotes behave."""

# The compiled modules of Nautilus ship without type stubs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from nautilus_trader.model.currencies import BTC, ETH, EUR, GBP, SOL, USD, USDT
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CryptoPerpetual, CurrencyPair, Instrument
from nautilus_trader.model.objects import Currency, Price, Quantity

from trader_node.quotes import QuoteModel

VENUE = "PAPER"
#: Cash of a new paper account, per currency; losses of months at 20 orders/s do not exhaust it.
STARTING_BALANCES = ("10_000_000 USDT", "10_000_000 USD")
# In a live node the sandbox fills a market order only up to the size of the best quote and leaves the rest open for
# ever. So the market is always deeper than the largest order of the example strategy.
_LEAST_DEPTH_LOTS = 20


@dataclass(frozen=True, slots=True)
class PaperInstrument:
    """One instrument of the paper market.

    Attributes
    ----------
    symbol
        Symbol without the venue.
    base, quote
        Currencies.
    perpetual
        A perpetual future, otherwise a spot pair.
    tick, lot
        Smallest step of price and size, as decimal text.
    model
        How its quotes behave.

    """

    symbol: str
    base: Currency
    quote: Currency
    perpetual: bool
    tick: str
    lot: str
    model: QuoteModel

    @property
    def id(self) -> str:
        """Instrument id, symbol and venue."""
        return f"{self.symbol}.{VENUE}"

    def build(self, ts_ns: int) -> Instrument:
        """Return the Nautilus instrument, stamped with ``ts_ns`` (UNIX time, nanoseconds)."""
        common = {
            "instrument_id": InstrumentId(Symbol(self.symbol), Venue(VENUE)),
            "raw_symbol": Symbol(self.symbol),
            "base_currency": self.base,
            "quote_currency": self.quote,
            "price_precision": _decimals(self.tick),
            "size_precision": _decimals(self.lot),
            "price_increment": Price.from_str(self.tick),
            "size_increment": Quantity.from_str(self.lot),
            "lot_size": Quantity.from_str(self.lot),
            "margin_init": Decimal("0.05"),
            "margin_maint": Decimal("0.03"),
            "maker_fee": Decimal("0.00002"),
            "taker_fee": Decimal("0.00005"),
            "ts_event": ts_ns,
            "ts_init": ts_ns,
        }
        if self.perpetual:
            return CryptoPerpetual(settlement_currency=self.quote, is_inverse=False, **common)
        return CurrencyPair(**common)


def _decimals(step: str) -> int:
    return len(step.partition(".")[2])


def _paper(
    symbol: str,
    currencies: tuple[Currency, Currency],
    reference: float,
    tick: str,
    lot: str,
    volatility: float,
    spread_ticks: int,
    depth_lots: int,
) -> PaperInstrument:
    model = QuoteModel(
        reference=reference,
        tick=float(tick),
        volatility=volatility,
        half_life=3600.0,
        spread_ticks=spread_ticks,
        lot=float(lot),
        least_depth_lots=_LEAST_DEPTH_LOTS,
        depth_lots=depth_lots,
    )
    base, quote = currencies
    return PaperInstrument(symbol, base, quote, symbol.endswith("-PERP"), tick, lot, model)


#: All instruments of the paper market by id.
CATALOGUE: dict[str, PaperInstrument] = {
    instrument.id: instrument
    for instrument in (
        _paper("BTCUSDT-PERP", (BTC, USDT), 96_500.0, "0.1", "0.001", 0.55, 1, 12),
        _paper("ETHUSDT-PERP", (ETH, USDT), 3_400.0, "0.01", "0.01", 0.70, 2, 25),
        _paper("SOLUSDT-PERP", (SOL, USDT), 190.0, "0.01", "0.1", 0.90, 1, 40),
        _paper("EURUSD", (EUR, USD), 1.0850, "0.00001", "1000", 0.08, 4, 60),
        _paper("GBPUSD", (GBP, USD), 1.2700, "0.00001", "1000", 0.09, 6, 50),
    )
}


class UnknownInstrumentError(ValueError):
    """An instrument id is not in the catalogue of the paper market."""


def select(ids: Iterable[str]) -> tuple[PaperInstrument, ...]:
    """Return the instruments of the given ids, in that order.

    Raises
    ------
    UnknownInstrumentError
        If an id is not in the catalogue.

    """
    chosen = []
    for name in ids:
        if name not in CATALOGUE:
            raise UnknownInstrumentError(f"{name!r} is not on the paper market: use some of {', '.join(CATALOGUE)}")
        chosen.append(CATALOGUE[name])
    return tuple(chosen)
