"""A strategy of your own, run by the stack: buys below, sells above a moving average of the price.

Run it from the repository's root with the files mounted into the trader's container::

    TRADER_CONFIG=examples/own_strategy/node.json TRADER_CODE_DIR=examples/own_strategy \\
        docker compose -f compose.yaml -f compose/own-strategy.yaml up

``node.json`` is Nautilus' own ``TradingNodeConfig``: replace the data and the execution client by those of your venue.
The stack adds the cache database and nothing else.
"""

from __future__ import annotations

import json
from collections import deque

from nautilus_trader.config import PositiveFloat, PositiveInt, StrategyConfig
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.trading.strategy import Strategy

#: Not shorter: Nautilus takes keys that are part of "expire_time_ns" (such as "n" or "time") for time stamps.
STATE_KEY = "reversion_state"


class ReversionConfig(StrategyConfig, frozen=True):
    """Configuration.

    Attributes
    ----------
    instrument_id
        What to trade.
    trade_size
        Size of each order, as decimal text in the instrument's units.
    window
        Quotes in the moving average.
    threshold_bps
        Distance from the average at which to trade, in basis points.

    """

    instrument_id: str
    trade_size: str
    window: PositiveInt = 20
    threshold_bps: PositiveFloat = 0.2


class Reversion(Strategy):
    """Holds at most one position: long below the average, short above it."""

    def __init__(self, config: ReversionConfig) -> None:
        super().__init__(config)
        self._instrument_id = InstrumentId.from_str(config.instrument_id)
        self._prices: deque[float] = deque(maxlen=config.window)
        self._trades = 0
        self.paused = False

    # A strategy with these two and ``paused`` can be held still, state and all, and compared to the last byte.

    def pause(self) -> None:
        """Send no orders until :meth:`resume`."""
        self.paused = True

    def resume(self) -> None:
        """Send orders again."""
        self.paused = False

    def on_start(self) -> None:
        """Subscribe; a position of the last run is in the cache already."""
        self.subscribe_quote_ticks(self._instrument_id)

    def on_save(self) -> dict[str, bytes]:
        """Return what the next run needs; with it the average need not be learned again."""
        return {STATE_KEY: json.dumps({"prices": list(self._prices), "trades": self._trades}).encode()}

    def on_load(self, state: dict[str, bytes]) -> None:
        """Take up what the last run saved."""
        if STATE_KEY in state:
            saved = json.loads(state[STATE_KEY])
            self._prices.extend(saved["prices"])
            self._trades = saved["trades"]

    def on_quote_tick(self, tick: QuoteTick) -> None:
        """Trade when the price is far enough from its average."""
        if self.paused:
            return
        price = (tick.bid_price.as_double() + tick.ask_price.as_double()) / 2
        self._prices.append(price)
        if len(self._prices) < self.config.window:
            return
        average = sum(self._prices) / len(self._prices)
        distance_bps = (price / average - 1) * 10_000
        net = self.portfolio.net_position(self._instrument_id)
        if distance_bps <= -self.config.threshold_bps and net <= 0:
            self._trade(OrderSide.BUY)
        elif distance_bps >= self.config.threshold_bps and net >= 0:
            self._trade(OrderSide.SELL)

    def _trade(self, side: OrderSide) -> None:
        instrument = self.cache.instrument(self._instrument_id)
        order = self.order_factory.market(
            instrument_id=self._instrument_id,
            order_side=side,
            quantity=instrument.make_qty(float(self.config.trade_size)),
        )
        self._trades += 1
        self.submit_order(order)
