"""Every fault that a drill can make, each usable alone."""

from __future__ import annotations

from . import clock, credentials, limits, maintenance, network, nodes, restore, sentinels, storage, trader, traders
from .base import Fault

__all__ = ["FAULTS", "Fault"]

_MODULES = (
    nodes,
    sentinels,
    network,
    storage,
    limits,
    clock,
    maintenance,
    trader,
    traders,
    credentials,
    restore,
)

#: By name, in the order in which they are listed.
FAULTS: dict[str, type[Fault]] = {fault.name: fault for module in _MODULES for fault in module.FAULTS}
