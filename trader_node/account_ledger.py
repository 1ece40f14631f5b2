"""Keeps account states as they were when Nautilus wrote them.

Nautilus changes the balances and margins inside past account states in place when later fills arrive: what
``account.events`` shows in a running node is not what happened, nor what was written to Redis. So each state is copied
at the moment it is published.
"""

# The compiled modules of Nautilus ship without type stubs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from typing import Any

import msgspec
from nautilus_trader.accounting.accounts.base import Account
from nautilus_trader.model.events import AccountState

from trader_node.snapshot import Record, event_record

#: Copies in excess of what the account still holds at which the ledger forgets purged ones.
_SLACK = 2000


class AccountLedger:
    """Copies of all account states that a node's accounts hold.

    Parameters
    ----------
    node
        The Nautilus ``TradingNode``, built but not yet running: until then nothing has changed a loaded state.

    """

    def __init__(self, node: Any) -> None:
        self._cache = node.kernel.cache
        self._copies: dict[str, dict[str, bytes]] = {}
        for account in self._cache.accounts():
            for event in account.events:
                self._copy(event)
        node.kernel.msgbus.subscribe(topic="events.account.*", handler=self._copy)

    def events(self, account: Account) -> list[Record]:
        """Return the account's states as they were written, in order."""
        copies = self._copies.get(str(account.id), {})
        return [
            event_record(event) if (copy := copies.get(str(event.id))) is None else msgspec.msgpack.decode(copy)
            for event in account.events
        ]

    def _copy(self, event: AccountState) -> None:
        copies = self._copies.setdefault(str(event.account_id), {})
        if str(event.id) in copies:
            return  # Nautilus publishes the last state again with each position event
        copies[str(event.id)] = msgspec.msgpack.encode(event_record(event))
        account = self._cache.account(event.account_id)
        if account is not None and len(copies) > account.event_count + _SLACK:
            held = {str(held_event.id) for held_event in account.events}
            self._copies[str(event.account_id)] = {key: copies[key] for key in copies if key in held}
