"""Execution on paper: Nautilus' sandbox with identifiers and an account that survive a restart."""

# The compiled modules of Nautilus ship without type stubs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import msgspec
from nautilus_trader.accounting.factory import AccountFactory
from nautilus_trader.adapters.sandbox.config import SandboxExecutionClientConfig
from nautilus_trader.adapters.sandbox.execution import SandboxExecutionClient
from nautilus_trader.adapters.sandbox.factory import SandboxLiveExecClientFactory
from nautilus_trader.model.identifiers import AccountId

from trader_node.instruments import STARTING_BALANCES, VENUE

#: Where execution clients send account states.
_ACCOUNT_ENDPOINT = "Portfolio.update_account"


class PaperExecutionConfig(SandboxExecutionClientConfig, frozen=True):
    """The sandbox's configuration with defaults that a restart cannot break.

    Sequential venue ids start again at 1 in every process, and Nautilus would then merge new fills into old positions
    of the same id: so ids are random and position ids are Nautilus' own, which carry date and time.
    """

    venue: str = VENUE
    starting_balances: list[str] = msgspec.field(default_factory=lambda: list(STARTING_BALANCES))
    oms_type: str = "HEDGING"
    account_type: str = "MARGIN"
    use_position_ids: bool = False
    use_random_ids: bool = True


class PaperExecutionFactory(SandboxLiveExecClientFactory):
    """Creates sandbox execution clients that take up their account where the last process left it."""

    # Nautilus instantiates an importable factory and then reads __name__ of the instance, which only a class
    # has; it also gives the portfolio only to a factory of exactly this name.
    __name__ = "SandboxLiveExecClientFactory"

    # The sandbox's own signature widens that of its base too.
    @staticmethod
    def create(  # type: ignore[override]
        loop: asyncio.AbstractEventLoop,
        name: str,
        config: SandboxExecutionClientConfig,
        portfolio: Any,
        msgbus: Any,
        cache: Any,
        clock: Any,
    ) -> SandboxExecutionClient:
        """Return a new client; called by Nautilus."""
        # The sandbox announces an account with the starting balances whenever a client is created. If the cache has
        # loaded the account, that announcement must not reach the portfolio, which would take it for the truth.
        loaded = cache.account(AccountId(f"{config.venue}-001")) is not None
        with _muted(msgbus, _ACCOUNT_ENDPOINT, portfolio.update_account) if loaded else nullcontext():
            return SandboxLiveExecClientFactory.create(loop, name, config, portfolio, msgbus, cache, clock)


@contextmanager
def _muted(msgbus: Any, endpoint: str, handler: Callable[[Any], None]) -> Iterator[None]:
    """Let messages to an endpoint of the bus go nowhere for a while."""

    def ignore(_message: Any) -> None:
        pass

    msgbus.deregister(endpoint, handler)
    msgbus.register(endpoint, ignore)
    try:
        yield
    finally:
        msgbus.deregister(endpoint, ignore)
        msgbus.register(endpoint, handler)


def keep_account(venue: str) -> None:
    """Have the venue's account calculated from fills and loaded from the cache at the next start.

    Must be called before the node is created: otherwise the sandbox resets the account to its starting balance at
    each start. Calling it again for the same venue changes nothing.
    """
    AccountFactory.register_calculated_account(venue)
