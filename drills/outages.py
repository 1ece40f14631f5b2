"""The faults of one test: made one by one, each seen to work, and all healed when the test ends, however it ends."""

from __future__ import annotations

import difflib
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from .faults import FAULTS, Fault
from .faults.network import PartitionService
from .interrupts import uninterrupted
from .own_stack import UserError
from .stack import Stack

#: Seconds for one master with two replicas, a link that applies writes and a healthy trader.
_HEALED = 120.0


class UnavailableError(UserError):
    """This fault cannot be made on this machine."""


class NoEffectError(Exception):
    """A fault was made and nothing came of it."""


@dataclass(slots=True)
class Outage:
    """A fault that was made and has taken effect; ``with`` it is healed at the end of the block."""

    name: str
    #: The master before the fault and the one when it had taken effect: the same without a failover.
    old: str
    new: str
    #: From the fault until it had taken effect; where a failover belongs to it, until another master was promoted.
    seconds: float
    #: How that was seen.
    effect: str
    #: When it was made and when it had taken effect, in Unix seconds.
    began: float
    confirmed: float
    interrupts_writes: bool
    _owner: Outages = field(repr=False)

    def heal(self) -> None:
        """Repair it, and whatever else is broken, and wait until the stack is whole and trades."""
        self._owner.heal()

    def __enter__(self) -> Outage:
        """Take note that it was made already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Heal it."""
        self.heal()


class Outages:
    """Makes faults on a stack and heals them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        #: Everything that was made so far.
        self.made: list[Outage] = []
        self._broken = ExitStack()
        self._whole = True

    def named(self, name: str) -> Outage:
        """Make the fault that ``./scripts/drill`` knows under a name.

        Raises
        ------
        UserError
            If there is none, or it cannot be made here.
        NoEffectError
            If nothing came of it; it is healed by then.

        """
        kind = FAULTS.get(name)
        if kind is None:
            close = difflib.get_close_matches(name, FAULTS, 1)
            guess = f", did you mean {close[0]!r}?" if close else ";"
            raise UserError(f"there is no fault {name!r}{guess} all of them: {', '.join(FAULTS)}")
        why = kind.unavailable(self.stack)
        if why:
            raise UnavailableError(f"{name}: {why}")
        return self.make(kind(self.stack))

    def partition(self, service: str = "") -> Outage:
        """Cut a service off from all other containers; without a name, the master. See :meth:`named`."""
        if service in ("", self.stack.master()):
            return self.named("partition-master")
        if service == "trader":
            return self.named("partition-trader")
        if service not in self.stack.services:
            known = ", ".join(self.stack.services)
            raise UserError(f"partition({service!r}): there is no such service; all of them: {known}")
        return self.make(PartitionService(self.stack, service))

    def make(self, fault: Fault) -> Outage:
        """Make a fault and wait until it has taken effect; see :meth:`named`."""
        kind = type(fault)
        self._whole = False
        self._broken.callback(fault.heal)
        try:
            fault.prepare()
            began = time.time()
            fault.inject()
            effect = fault.confirm()
        except TimeoutError as error:
            raise NoEffectError(f"{kind.name} took no effect: {error}") from error
        confirmed = time.time()
        outage = Outage(
            name=kind.name,
            old=fault.master,
            new=self.stack.master(),
            seconds=confirmed - began,
            effect=effect,
            began=began,
            confirmed=confirmed,
            interrupts_writes=kind.interrupts_writes,
            _owner=self,
        )
        self.made.append(outage)
        return outage

    def heal(self) -> None:
        """Repair everything and wait until the stack is whole and trades. Raises ``TimeoutError`` if it does not."""
        if self._whole:
            return
        # Every one of them, also if another's healing fails.
        with uninterrupted(lambda said: print(said, file=sys.stderr)):
            self._broken.close()
            self.stack.heal(_HEALED)
            self._whole = True
