"""Clocks that jump."""

from __future__ import annotations

import time

from drills import images
from drills.scripts import run_on
from drills.stack import SENTINELS, Stack
from drills.waiting import wait_until

from .base import FAILOVER, Fault

#: Seconds by which the clocks jump: more than any timeout of Redis and Sentinel here.
_JUMP = 90
#: Seconds by which the clock read over the network may differ from the one that was set.
_TOLERANCE = 10
#: In one step: a clock that is read meanwhile is either the old or the new one.
_SET = 'echo "$1" >"$JUMPING_CLOCK.new" && mv "$JUMPING_CLOCK.new" "$JUMPING_CLOCK"'


class ClockJump(Fault):
    """The wall clocks of the master and of one Sentinel jump forward or back by a minute and a half.

    The clock of the host is not touched: both, and the other nodes, run an image whose clock can be set for a while.
    The jump makes replicas look silent to the master, and the Sentinel distrust itself (TILT) for half a minute.
    """

    name = "clock-jump"
    summary = "the clocks of the master and of one Sentinel jump by 90 seconds"
    #: The healing has a switchover, and the master may lose its role for the jump.
    changes_master = None
    interrupts_writes = False
    interrupts_trader = False

    @classmethod
    def unavailable(cls, stack: Stack) -> str:
        """Return why the containers must not be recreated from here, or that the image cannot be built."""
        refusal = images.refuse_recreation(stack)
        if refusal:
            return refusal
        try:
            images.build_clock(stack)
        except RuntimeError as error:
            return f"it needs a Redis image with a clock that can be set: {error}"
        return ""

    def prepare(self) -> None:
        """Give the replicas and a Sentinel a clock that can be set, and make one of these replicas the master."""
        self._sentinel = self.random.choice(SENTINELS)
        images.roll_out(self.stack, [*self.replicas, self._sentinel], images.clock_tag(self.stack))
        run_on(self.stack, "switchover", "--sentinel", next(other for other in SENTINELS if other != self._sentinel))
        self.master = self.stack.master()

    def inject(self) -> None:
        """Set both clocks."""
        self._jump = self.random.choice((-_JUMP, _JUMP))
        for service in (self.master, self._sentinel):
            self.stack.execute(service, "sh", "-c", _SET, "sh", str(self._jump))

    def confirm(self) -> str:
        """Wait until the master tells the other time and the Sentinel distrusts its clock; let timeouts take effect."""
        wait_until(self._jumped, FAILOVER, f"the clock of {self.master} jumps by {self._jump} s", 0.05)
        sentinel = self.stack.client(self._sentinel)
        wait_until(lambda: sentinel.info("sentinel")["sentinel_tilt"], FAILOVER, f"{self._sentinel} is in TILT", 0.05)
        self.linger(self.random.uniform(3.0, 6.0))
        return (
            f"the clocks of {self.master} and {self._sentinel} jumped by {self._jump:+d} s; {self._sentinel} is in TILT"
        )

    def heal(self) -> None:
        """Bring the configured image back, to the distrustful Sentinel first: a switchover may need it."""
        self.stack.ensure_running(*self.stack.services)
        for service in images.upgraded(self.stack):
            if service in SENTINELS:
                images.recreate(self.stack, service, images.configured_tag(self.stack))
        images.restore(self.stack)

    def _jumped(self) -> bool:
        seconds, _ = self.stack.client(self.master).time()
        return abs(seconds - time.time() - self._jump) < _TOLERANCE


FAULTS: tuple[type[Fault], ...] = (ClockJump,)
