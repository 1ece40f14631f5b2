"""The example strategy: keeps a hedged book of many small positions turning over at a set rate of orders."""

# The compiled modules of Nautilus ship without type stubs, so their classes are Any to the type checker.
# mypy: disable-error-code="import-not-found", disallow-subclassing-any=False

from __future__ import annotations

import base64
import json
import random
import secrets
from datetime import timedelta
from typing import Any

from nautilus_trader.config import PositiveFloat, PositiveInt, StrategyConfig
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.events import OrderCanceled, OrderDenied, OrderExpired, OrderFilled, OrderRejected
from nautilus_trader.model.identifiers import InstrumentId, PositionId
from nautilus_trader.trading.strategy import Strategy

from trader_node.decisions import Decision, Holding, Intent, Limits, decide

#: One key for the whole state. Nautilus takes any key that is a substring of "expire_time_ns" for a time stamp and
#: fails to load it, so keys must not be short.
STATE_KEY = "hedged_book_state"


class HedgedBookConfig(StrategyConfig, frozen=True):
    """Configuration of the example strategy.

    Attributes
    ----------
    instrument_ids
        Instruments to trade, at least one.
    orders_per_second
        Rate of orders; 0 submits none and only keeps what is there.
    target_open, max_open, max_lots
        Bounds of the book, see :class:`trader_node.decisions.Limits`.
    seed
        Makes the decisions reproducible; None draws a seed, which is then part of the saved state.
    save_interval_secs
        Seconds between two saves of the state, so that also a crash of the process leaves a recent one.

    """

    instrument_ids: tuple[str, ...]
    orders_per_second: float = 20.0
    target_open: PositiveInt = 24
    max_open: PositiveInt = 40
    max_lots: PositiveInt = 12
    seed: int | None = None
    save_interval_secs: PositiveFloat = 10.0


class HedgedBook(Strategy):
    """Opens, adds to, reduces and closes hedged positions at a set rate.

    Whatever was open at the last stop or crash comes back from the cache and is managed on: open positions are read
    from the cache at each decision and never remembered anywhere else.
    """

    #: Finest timer; above this rate several orders are submitted per tick.
    _SHORTEST_TICK_SECS = 0.02
    #: A venue that has stopped answering gets no more orders than this, so that the book stays within its bound.
    _MOST_IN_FLIGHT = 10

    def __init__(self, config: HedgedBookConfig) -> None:
        super().__init__(config)
        self._instruments = [InstrumentId.from_str(name) for name in config.instrument_ids]
        self._limits = Limits(config.target_open, config.max_open, config.max_lots)
        self._seed = secrets.randbits(32) if config.seed is None else config.seed
        self._submitted = dict.fromkeys((intent.value for intent in Intent), 0)
        self._filled = 0
        #: Orders without an answer, by client order id: the position each is for, None for a new one.
        self._in_flight: dict[str, str | None] = {}
        self._owed = 0.0
        self._paused = False

    # -- life cycle ------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Subscribe to quotes and start the timers; open positions are already in the cache."""
        reloaded = self.cache.positions_open_count(strategy_id=self.id)
        self.log.info(f"{reloaded} open positions taken over, {self.orders_submitted} orders submitted in earlier runs")
        for instrument_id in self._instruments:
            self.subscribe_quote_ticks(instrument_id)
        if self.config.orders_per_second > 0:
            tick = max(1.0 / self.config.orders_per_second, self._SHORTEST_TICK_SECS)
            self._per_tick = tick * self.config.orders_per_second
            self.clock.set_timer("orders", timedelta(seconds=tick), callback=self._on_orders_due)
        interval = timedelta(seconds=self.config.save_interval_secs)
        self.clock.set_timer("save", interval, callback=self._on_save_due)

    def on_stop(self) -> None:
        """Leave all positions open: the next start takes them over."""

    def on_save(self) -> dict[str, bytes]:
        """Return the state to keep; called by Nautilus at stop and by our own timer."""
        state = {"seed": self._seed, "submitted": self._submitted, "filled": self._filled}
        return {STATE_KEY: json.dumps(state, sort_keys=True).encode()}

    def on_load(self, state: dict[str, bytes | str]) -> None:
        """Take up the saved state."""
        saved = state.get(STATE_KEY)
        if saved is None:
            return
        # With the JSON encoding Nautilus hands bytes back as base64 text.
        content = json.loads(saved if isinstance(saved, bytes) else base64.b64decode(saved))
        if self.config.seed is None:
            self._seed = content["seed"]
        self._submitted.update(content["submitted"])
        self._filled = content["filled"]

    # -- what the node asks ----------------------------------------------------------------------

    @property
    def orders_submitted(self) -> int:
        """Orders submitted by all runs together."""
        return sum(self._submitted.values())

    @property
    def paused(self) -> bool:
        """Whether no new orders are submitted."""
        return self._paused

    def pause(self) -> None:
        """Submit no new orders until :meth:`resume`; orders in flight still complete."""
        self._paused = True

    def resume(self) -> None:
        """Submit orders again."""
        self._paused = False
        self._owed = 0.0

    # -- trading ---------------------------------------------------------------------------------

    def _on_orders_due(self, _event: Any) -> None:
        if self._paused:
            return
        # Bounded, so that a stall of the process is not followed by a burst.
        self._owed = min(self._owed + self._per_tick, 2 * self._per_tick + 1)
        while self._owed >= 1:
            self._owed -= 1
            self._submit_next()

    def _submit_next(self) -> None:
        if len(self._in_flight) >= self._MOST_IN_FLIGHT:
            return
        names = [str(instrument_id) for instrument_id in self._instruments if self.cache.has_quote_ticks(instrument_id)]
        if not names:
            return
        # A die of its own per order makes the sequence continue after a restart without saving the generator.
        dice = random.Random(f"{self._seed}:{self.orders_submitted}")  # noqa: S311 - a simulation, not a secret
        self._submit(decide(dice, names, self._book(set(names)), self._limits))

    def _book(self, names: set[str]) -> list[Holding]:
        waiting = set(self._in_flight.values())
        positions = self.cache.positions_open(strategy_id=self.id)
        return [
            Holding(str(p.id), str(p.instrument_id), p.is_long, self._lots(p.instrument_id, p.quantity))
            for p in sorted(positions, key=lambda p: (p.ts_opened, str(p.id)))
            if str(p.instrument_id) in names and str(p.id) not in waiting
        ]

    def _lots(self, instrument_id: InstrumentId, quantity: Any) -> int:
        lot: float = self.cache.instrument(instrument_id).lot_size.as_double()
        return round(float(quantity.as_double()) / lot)

    def _submit(self, decision: Decision) -> None:
        instrument_id = InstrumentId.from_str(decision.instrument_id)
        instrument = self.cache.instrument(instrument_id)
        order = self.order_factory.market(
            instrument_id=instrument_id,
            order_side=OrderSide.BUY if decision.buy else OrderSide.SELL,
            quantity=instrument.make_qty(decision.lots * instrument.lot_size.as_double()),
            tags=[decision.intent.value],
        )
        self._submitted[decision.intent.value] += 1
        holding = decision.holding
        # Marked before submitting: on paper the fill arrives within the call.
        self._in_flight[str(order.client_order_id)] = None if holding is None else holding.id
        self.submit_order(order, position_id=None if holding is None else PositionId(holding.id))

    def on_order_filled(self, event: OrderFilled) -> None:
        """Count the fill; the position is free for the next order when its order is complete."""
        self._filled += 1
        order = self.cache.order(event.client_order_id)
        if order is None or order.is_closed:
            self._in_flight.pop(str(event.client_order_id), None)

    def on_order_rejected(self, event: OrderRejected) -> None:
        """Free the position."""
        self._in_flight.pop(str(event.client_order_id), None)

    def on_order_denied(self, event: OrderDenied) -> None:
        """Free the position."""
        self._in_flight.pop(str(event.client_order_id), None)

    def on_order_canceled(self, event: OrderCanceled) -> None:
        """Free the position."""
        self._in_flight.pop(str(event.client_order_id), None)

    def on_order_expired(self, event: OrderExpired) -> None:
        """Free the position."""
        self._in_flight.pop(str(event.client_order_id), None)

    def _on_save_due(self, _event: Any) -> None:
        # Nautilus saves only at a clean stop.
        self.cache.update_strategy(self)
