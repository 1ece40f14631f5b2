"""What a test of a user's own compares after its faults: live appends, and the node's own record."""

from __future__ import annotations

import time

from .ledger import Verdict
from .outages import Outages
from .records import Comparison, compare_trader
from .results import TraderCounts
from .stack import NODES
from .traffic import Accepted, Traffic, wait_until_replicated
from .verdict import under_way
from .waiting import wait_until

#: Differences that a failure shows; there may be thousands.
_SHOWN = 10
#: Seconds until the node has traded on.
_TRADED = 60.0


class MismatchError(AssertionError):
    """Something was lost, doubled, out of order or never asked for, or there was nothing to compare."""


class LiveLedger:
    """Appends of an independent client through a link of its own, from its start until :meth:`check`."""

    def __init__(self, outages: Outages) -> None:
        self._outages = outages
        self._stack = outages.stack
        self._traffic = Traffic(outages.stack)
        self._began = 0.0
        self._accepted: Accepted | None = None

    def __enter__(self) -> LiveLedger:
        """Start the appends and wait until they are acknowledged."""
        try:
            self._traffic.start()
            self._began = time.time()
            wait_until(
                lambda: self._traffic.tick.acknowledged > 0, 30, "the ledger's first append is acknowledged", 0.05
            )
        except BaseException:
            self._traffic.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the appends and remove what they wrote."""
        self._traffic.close()
        self._traffic.clean()

    def check(self) -> Verdict:
        """Heal what is broken, stop the appends and compare every one of them with each node of Redis.

        Returns the counts; raises ``MismatchError`` unless every acknowledged append is on every node exactly once and
        in order, nothing else is there, and some append was under way in every fault of the test.
        """
        # Of a failure the caller's line and the message are shown.
        __tracebackhide__ = True
        self._outages.heal()
        if self._accepted is None:
            self._accepted = self._traffic.stop()
        accepted = self._accepted
        wait_until_replicated(self._stack)
        for node in NODES:
            verdict = self._traffic.compare(accepted, node)
            if not verdict.exact:
                raise MismatchError(f"ledger: {node} does not hold what was acknowledged: {verdict}")
        if not verdict.ok:
            raise MismatchError("ledger: no append was acknowledged, so nothing was compared")
        for outage in self._outages.made:
            # What came before the ledger cannot show in it.
            if outage.began >= self._began and not under_way(accepted.operations, outage.began, outage.confirmed):
                raise MismatchError(f"ledger: no append was under way while {outage.name} took hold: it proves nothing")
        return verdict


class Positions:
    """The node's own record of its positions, orders and accounts."""

    def __init__(self, outages: Outages) -> None:
        self._outages = outages
        self._stack = outages.stack
        self._known = outages.stack.report()

    def check(self, new_orders: int = 1) -> TraderCounts:
        """Heal what is broken and compare the node's record with every node of Redis, one by one; return the counts.

        Raises ``MismatchError`` unless they are equal, nothing is missing that the node knew when the test began, and
        the node has made at least ``new_orders`` since then: an idle strategy proves nothing.
        """
        __tracebackhide__ = True
        self._outages.heal()
        before = self._known["orders"].keys()
        try:
            wait_until(
                lambda: len(self._stack.report()["orders"].keys() - before) >= new_orders, _TRADED, "new orders", 0.5
            )
        except TimeoutError:
            raise MismatchError(
                f"positions: the node made fewer than {new_orders} orders since the test began"
            ) from None
        comparison: Comparison = compare_trader(self._stack, self._known)
        if not comparison.exact:
            shown = "\n".join(f"  {line}" for line in comparison.differences[:_SHOWN])
            raise MismatchError(f"positions: the node and Redis differ: {comparison}\n{shown}")
        return comparison.counts
