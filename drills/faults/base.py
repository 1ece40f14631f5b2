"""What a fault is."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from drills.stack import NODES, Stack
from drills.waiting import wait_until

#: Seconds in which a failover, with all its retries on a busy machine, must be over.
FAILOVER = 60.0


class Fault(ABC):
    """One kind of fault on a running stack; an instance is used once.

    The order of calls is :meth:`prepare` (nothing is broken yet), :meth:`inject` (at once), :meth:`confirm` (wait
    until it is seen to work), :meth:`heal`. ``heal`` is called whatever happened after ``prepare``, also twice. Usable
    alone::

        with KillMaster(stack) as fault:
            ...  # the master is dead, and another one promoted

    """

    #: What people type, for example ``kill-master``.
    name: ClassVar[str] = ""
    #: One line for people.
    summary: ClassVar[str] = ""
    #: Another node is master afterwards; None: that is left open.
    changes_master: ClassVar[bool | None] = True
    #: It becomes master while the fault lasts; otherwise only after the healing.
    promotes_unhealed: ClassVar[bool] = True
    #: The appender's writes, and the trader's, stop for a while: the drill fails if none was caught by it.
    interrupts_writes: ClassVar[bool] = True
    interrupts_trader: ClassVar[bool] = True
    #: Writes go on before the fault is healed.
    resumes_unhealed: ClassVar[bool] = True
    #: The node's process ends and starts again; otherwise it must not.
    restarts_trader: ClassVar[bool] = False
    #: Only a stack with logins has it, see compose/staging.yaml.
    needs_logins: ClassVar[bool] = False

    def __init__(self, stack: Stack, chance: random.Random | None = None) -> None:
        self.stack = stack
        self.random = chance or random.Random()  # noqa: S311 # which replica, how long
        #: The master before the fault.
        self.master = stack.master()
        #: When the fault was there (Unix seconds), if :meth:`inject` does more after that; None: when it returned.
        self.struck: float | None = None
        #: The node's own record at a later moment than before the fault, of which nothing may be lost; None: none was
        #: taken.
        self.known: dict[str, Any] | None = None

    @classmethod
    def unavailable(cls, stack: Stack) -> str:
        """Return why this fault cannot be made here, or nothing."""
        return ""

    def prepare(self) -> None:  # noqa: B027 # most have nothing to prepare
        """Get everything ready; nothing is broken yet."""

    @abstractmethod
    def inject(self) -> None:
        """Break it, at once."""

    def confirm(self) -> str:
        """Wait until the fault has taken effect and return how that was seen.

        Raises
        ------
        TimeoutError
            If it has not.

        """
        return self.confirm_promotion()

    @abstractmethod
    def heal(self) -> None:
        """Repair it, to the state of before. What was repaired already stays as it is."""

    def confirm_promotion(self) -> str:
        """Wait until another node than :attr:`master` says that it is the master and the Sentinels agree."""
        wait_until(lambda: self.stack.promoted(self.master), FAILOVER, f"another master than {self.master}", 0.02)
        return f"{self.stack.promoted(self.master)} was promoted in place of {self.master}"

    def linger(self, seconds: float) -> None:
        """Let the traffic run on. The duration is part of the fault: there is no condition to wait for."""
        time.sleep(seconds)

    @property
    def replicas(self) -> list[str]:
        """The nodes that were no master before the fault."""
        return [node for node in NODES if node != self.master]

    def __enter__(self) -> Fault:
        """Break it, and wait until it is seen to be broken."""
        try:
            self.prepare()
            self.inject()
            self.confirm()
        except BaseException:
            self.heal()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Repair it."""
        self.heal()
