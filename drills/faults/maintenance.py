"""Planned work under full traffic: what is no fault must be no outage either."""

from __future__ import annotations

import time

from drills import images
from drills.scripts import run_on
from drills.stack import SENTINELS, Stack

from .base import Fault


class Switchover(Fault):
    """``./scripts/switchover``: ``SENTINEL FAILOVER`` while everything is well."""

    name = "switchover"
    summary = "a planned switchover: a Sentinel is asked to hand the master's role over"
    # A handover is over in a fifth of a second: good if nobody has to wait for it.
    interrupts_writes = False

    def prepare(self) -> None:
        """Choose the Sentinel."""
        self._sentinel = self.random.choice(SENTINELS)

    def inject(self) -> None:
        """Ask it, and wait until the old master follows the new one."""
        run_on(self.stack, "switchover", "--sentinel", self._sentinel, says=self._note)
        self._successor = self.stack.master()

    def confirm(self) -> str:
        """Say what came of it: it was waited for."""
        return f"{self._sentinel} handed over from {self.master} to {self._successor}; {self.master} follows"

    def heal(self) -> None:
        """Nothing is broken."""

    def _note(self, line: str) -> None:
        # The command looks at everything before that.
        if "hands over" in line:
            self.struck = time.time()


class RollingRestart(Fault):
    """``./scripts/rollout --restart``: every container, one by one, as after a change of the host.

    Replicas first, then a switchover, then the node that was the master, the Sentinels, and the trader last.
    """

    name = "rolling-restart"
    summary = "every container is restarted, one by one, the master after a switchover and the trader last"
    # A handover is over in a fifth of a second: good if nobody has to wait for it.
    interrupts_writes = False
    restarts_trader = True

    def prepare(self) -> None:
        """Remember which processes there are."""
        self._started = self.stack.start_times()

    def inject(self) -> None:
        """Restart whatever runs Redis or watches it."""
        self.struck = time.time()
        run_on(self.stack, "rollout", "--restart", *images.REDIS_SERVICES)

    def confirm(self) -> str:
        """Restart the traders, and look at when everything was started."""
        self.known = self.stack.report()
        run_on(self.stack, "rollout", "--restart", *(trader.service for trader in self.stack.traders))
        now = self.stack.start_times()
        kept = [service for service in self.stack.services if now[service] == self._started[service]]
        if kept:
            raise RuntimeError(f"not restarted: {', '.join(kept)}")
        order = sorted(self.stack.services, key=lambda service: now[service])
        return f"restarted one by one, the stack whole in between: {', '.join(order)}"

    def heal(self) -> None:
        """Start whatever an interrupted restart left stopped."""
        self.stack.ensure_running(*self.stack.services)


class RollingUpgrade(Fault):
    """``./scripts/rollout`` to another Redis 7 image, of every Redis node and Sentinel; the healing goes back so.

    The other image is built on UPGRADE_REDIS_IMAGE. Where no registry can be reached, it is the same Redis in another
    image.
    """

    name = "rolling-upgrade"
    summary = "every Redis node and Sentinel is replaced by one of another Redis 7 image, one by one, and back again"
    # A handover is over in a fifth of a second: good if nobody has to wait for it.
    interrupts_writes = False
    #: The way back has a switchover of its own, which may lead to the node that was master first.
    changes_master = None

    @classmethod
    def unavailable(cls, stack: Stack) -> str:
        """Return why this stack's containers must not be recreated from here."""
        return images.refuse_recreation(stack)

    def prepare(self) -> None:
        """Build the other image and note what runs now."""
        images.build_upgrade(self.stack)
        self._tag = images.upgrade_tag(self.stack)
        self._before = self._running()

    def inject(self) -> None:
        """Replace them, each when the stack is whole again."""
        self.struck = time.time()
        images.roll_out(self.stack, images.REDIS_SERVICES, self._tag)

    def confirm(self) -> str:
        """Look at what runs now."""
        wanted = images.image_id(self._tag)
        now = self._running()
        left = [service for service, (image, _) in now.items() if image != wanted]
        same = [service for service, (image, _) in now.items() if image == self._before[service][0]]
        if left or same:
            raise RuntimeError(f"not upgraded: {', '.join(left or same)}")
        return (
            f"all of {', '.join(now)} were replaced, the stack whole in between: {_described(self._before)} before, "
            f"{_described(now)} after"
        )

    def heal(self) -> None:
        """Bring the configured image back, in the same order."""
        self.stack.ensure_running(*self.stack.services)
        images.restore(self.stack)

    def _running(self) -> dict[str, tuple[str, str]]:
        """Return image id and version of everything that runs Redis."""
        containers = self.stack.containers()
        return {
            service: (images.image_of(containers[service]), images.redis_version(self.stack, service))
            for service in images.REDIS_SERVICES
        }


def _described(running: dict[str, tuple[str, str]]) -> str:
    return " and ".join(
        f"image {image.removeprefix('sha256:')[:12]} with Redis {version}"
        for image, version in sorted(set(running.values()))
    )


FAULTS: tuple[type[Fault], ...] = (Switchover, RollingRestart, RollingUpgrade)
