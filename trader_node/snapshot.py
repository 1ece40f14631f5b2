"""Nautilus' objects as plain records, the same whether they come from a node's memory or were rebuilt from Redis.

A record holds everything that Nautilus itself derives from the events (side, quantity, average price, realized PnL,
status ...) and every event, so that two records are equal only if nothing is lost, added or changed.
"""

# The compiled modules of Nautilus ship without type stubs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from nautilus_trader.accounting.accounts.base import Account
from nautilus_trader.core.message import Event
from nautilus_trader.model.orders import Order
from nautilus_trader.model.position import Position

Record = dict[str, Any]

# What Nautilus keeps only in memory, not in the events: a rebuilt order does not have it.
_NOT_IN_EVENTS = frozenset({"slippage"})


def event_record(event: Event) -> Record:
    """Return all fields of an event."""
    record: Record = type(event).to_dict(event)
    return record


def position_record(position: Position) -> Record:
    """Return a position with all its fills, in the order they were applied."""
    record: Record = position.to_dict()
    record["events"] = [event_record(event) for event in position.events]
    return record


def order_record(order: Order) -> Record:
    """Return an order with all its events, in the order they were applied."""
    record: Record = {key: value for key, value in order.to_dict().items() if key not in _NOT_IN_EVENTS}
    record["events"] = [event_record(event) for event in order.events]
    return record


def account_record(account: Account, events: list[Record]) -> Record:
    """Return an account with its balances and the given states.

    The states are given because Nautilus changes those of a live account in place after they were written.
    """
    return {
        "account_id": str(account.id),
        "type": account.type.name,
        "base_currency": None if account.base_currency is None else account.base_currency.code,
        "balances": {
            currency.code: {"total": str(balance.total), "locked": str(balance.locked), "free": str(balance.free)}
            for currency, balance in sorted(account.balances().items(), key=lambda item: item[0].code)
        },
        "events": events,
    }


def state_record(state: Mapping[str, Any]) -> Record:
    """Return a strategy's saved state with its bytes as text, or as ``base64:...`` where they are not UTF-8."""
    return {str(key): _text(value) for key, value in state.items()}


def _text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def trader_record(
    trader_id: str,
    positions: Iterable[Position],
    orders: Iterable[Order],
    accounts: Iterable[tuple[Account, list[Record]]],
    strategies: Mapping[str, Mapping[str, Any]],
) -> Record:
    """Return the record of a whole trader; each account comes with its states.

    Returns
    -------
    dict
        ``trader_id``, ``positions``, ``orders``, ``accounts`` and ``strategies``, the last four by id.

    """
    return {
        "trader_id": trader_id,
        "positions": {str(p.id): position_record(p) for p in positions},
        "orders": {str(o.client_order_id): order_record(o) for o in orders},
        "accounts": {str(a.id): account_record(a, events) for a, events in accounts},
        "strategies": {name: state_record(state) for name, state in strategies.items()},
    }
