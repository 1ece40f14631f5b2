"""Execution on paper: Nautilus' sandbox with identifiers and an account that survive a restart."""

# The compiled modules of Nautilus ship without type stubs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from typing import Any

import msgspec
from nautilus_trader.accounting.factory import AccountFactory
from nautilus_trader.adapters.sandbox.config import SandboxExecutionClientConfig
from nautilus_trader.adapters.sandbox.execution import SandboxExecutionClient
from nautilus_trader.adapters.sandbox.factory import SandboxLiveExecClientFactory

from trader_node.instruments import STARTING_BALANCES, VENUE


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

    # Nautilus instantiates an importable factory and then reads __name__ of the instance, which only a class has;
    # it also gives the portfolio only to a factory of exactly this name.
    __name__ = "SandboxLiveExecClientFactory"

    @staticmethod
    def create(**kwargs: Any) -> SandboxExecutionClient:
        """Return a new client; called by Nautilus with the arguments of the sandbox's factory."""
        return SandboxLiveExecClientFactory.create(**kwargs)


def keep_account(venue: str) -> None:
    """Have the venue's account calculated from fills and loaded from the cache at the next start.

    Must be called before the node is created: otherwise the sandbox resets the account to its starting balance at
    each start. Calling it again for the same venue changes nothing.
    """
    AccountFactory.register_calculated_account(venue)
