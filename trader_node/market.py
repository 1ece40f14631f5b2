"""The paper market as a Nautilus data client: synthetic quotes for a few instruments, no network."""

# The compiled modules of Nautilus ship without type stubs, so their classes are Any to the type checker.
# mypy: disable-error-code="import-not-found", disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from nautilus_trader.common.providers import InstrumentProvider
from nautilus_trader.config import LiveDataClientConfig
from nautilus_trader.live.data_client import LiveMarketDataClient
from nautilus_trader.live.factories import LiveDataClientFactory
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.identifiers import ClientId, Venue
from nautilus_trader.model.instruments import Instrument

from trader_node.instruments import VENUE, PaperInstrument, select
from trader_node.quotes import Quote, QuoteStream


class PaperMarketConfig(LiveDataClientConfig, frozen=True):
    """Configuration of the paper market.

    Attributes
    ----------
    instrument_ids
        Which instruments of the catalogue it quotes.
    seed
        Makes the quotes reproducible; None draws a seed at every start.
    quotes_per_second
        Quotes per instrument and second, more than 0.

    """

    instrument_ids: tuple[str, ...] = ()
    seed: int | None = None
    quotes_per_second: float = 5.0


class PaperMarketClient(LiveMarketDataClient):
    """Publishes instruments at connect, then quotes for those that someone has subscribed to.

    Parameters
    ----------
    loop, msgbus, cache, clock
        Given by Nautilus to every client.
    name
        Client id.
    config
        What to quote.

    Raises
    ------
    trader_node.instruments.UnknownInstrumentError
        If the configuration names an instrument that the catalogue does not hold.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        config: PaperMarketConfig,
        msgbus: Any,
        cache: Any,
        clock: Any,
    ) -> None:
        super().__init__(
            loop=loop,
            client_id=ClientId(name),
            venue=Venue(VENUE),
            msgbus=msgbus,
            cache=cache,
            clock=clock,
            instrument_provider=InstrumentProvider(),
            config=config,
        )
        self._specs = select(config.instrument_ids)
        self._seed = secrets.randbits(32) if config.seed is None else config.seed
        self._interval = 1.0 / config.quotes_per_second
        self._instruments: dict[str, Instrument] = {}
        self._quoting: dict[str, asyncio.Task[None]] = {}

    async def _connect(self) -> None:
        self._log.info(f"Paper market: {len(self._specs)} instruments, seed {self._seed}")
        for spec in self._specs:
            instrument = spec.build(self._clock.timestamp_ns())
            self._instruments[spec.id] = instrument
            # The sandbox reads the cache when it connects, which is before the data engine has handled what is queued.
            self._cache.add_instrument(instrument)
            self._handle_data(instrument)

    async def _disconnect(self) -> None:
        for task in self._quoting.values():
            task.cancel()
        self._quoting.clear()

    async def _subscribe_quote_ticks(self, command: Any) -> None:
        name = str(command.instrument_id)
        if name in self._quoting:
            return
        for spec in self._specs:
            if spec.id == name:
                # Not Nautilus' create_task, which would log a warning for each at the ordinary end.
                self._quoting[name] = self._loop.create_task(self._quote(spec), name=f"quotes of {name}")
                return
        self._log.error(f"Not on the paper market: {name}; it has {', '.join(self._instruments)}")

    async def _unsubscribe_quote_ticks(self, command: Any) -> None:
        task = self._quoting.pop(str(command.instrument_id), None)
        if task is not None:
            task.cancel()

    async def _quote(self, spec: PaperInstrument) -> None:
        stream = QuoteStream(spec.model, spec.id, self._seed)
        instrument = self._instruments[spec.id]
        while True:
            self._handle_data(self._tick(instrument, stream.next(self._interval), spec))
            await asyncio.sleep(self._interval)

    def _tick(self, instrument: Instrument, quote: Quote, spec: PaperInstrument) -> QuoteTick:
        now = self._clock.timestamp_ns()
        return QuoteTick(
            instrument_id=instrument.id,
            bid_price=instrument.make_price(quote.bid_ticks * spec.model.tick),
            ask_price=instrument.make_price(quote.ask_ticks * spec.model.tick),
            bid_size=instrument.make_qty(quote.bid_lots * spec.model.lot),
            ask_size=instrument.make_qty(quote.ask_lots * spec.model.lot),
            ts_event=now,
            ts_init=now,
        )

    # A paper market has no history and no instruments beyond those it published, so there is nothing to answer.

    async def _subscribe_instruments(self, command: Any) -> None:
        """Do nothing: instruments are published at connect."""

    async def _subscribe_instrument(self, command: Any) -> None:
        """Do nothing: instruments are published at connect."""

    async def _unsubscribe_instruments(self, command: Any) -> None:
        """Do nothing."""

    async def _unsubscribe_instrument(self, command: Any) -> None:
        """Do nothing."""


class PaperMarketFactory(LiveDataClientFactory):
    """Creates the paper market's data client for a node's configuration."""

    # Nautilus instantiates an importable factory and then reads __name__ of the instance, which only a class has.
    __name__ = "PaperMarketFactory"

    @staticmethod
    def create(
        loop: asyncio.AbstractEventLoop,
        name: str,
        config: LiveDataClientConfig,
        msgbus: Any,
        cache: Any,
        clock: Any,
    ) -> PaperMarketClient:
        """Return a new client; called by Nautilus with what the configuration names.

        Raises
        ------
        TypeError
            If the configuration is not a :class:`PaperMarketConfig`.

        """
        if not isinstance(config, PaperMarketConfig):
            raise TypeError(f"the paper market takes a PaperMarketConfig, not a {type(config).__name__}")
        return PaperMarketClient(loop, name, config, msgbus, cache, clock)
