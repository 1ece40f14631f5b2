"""Planned work under full traffic: what is no fault must be no outage either."""

from __future__ import annotations

import time
from collections.abc import Iterator

from drills import images
from drills.rolling import roll, switch_over
from drills.stack import SENTINELS, Stack, docker

from .base import Fault


class Switchover(Fault):
    """``SENTINEL FAILOVER`` while everything is well."""

    name = "switchover"
    summary = "a planned switchover: a Sentinel is asked to hand the master's role over"
    # A handover is over in a fifth of a second: good if nobody has to wait for it.
    interrupts_writes = False

    def prepare(self) -> None:
        """Choose the Sentinel."""
        self._sentinel = self.random.choice(SENTINELS)

    def inject(self) -> None:
        """Ask it."""
        self.struck = time.time()
        self._successor = switch_over(self.stack, self._sentinel)

    def confirm(self) -> str:
        """Say what came of it: it was waited for."""
        return f"{self._sentinel} handed over from {self.master} to {self._successor}; {self.master} follows"

    def heal(self) -> None:
        """Nothing is broken."""


class RollingRestart(Fault):
    """``docker restart`` of every container, one by one, as after a change of the host.

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
        self._steps: Iterator[str] = roll(self.stack, self.stack.services, self._restart)

    def inject(self) -> None:
        """Restart the first one."""
        self._done = [next(self._steps)]

    def confirm(self) -> str:
        """Restart the others, each when the stack is whole again."""
        self._done.extend(self._steps)
        now = self.stack.start_times()
        kept = [service for service in self.stack.services if now[service] == self._started[service]]
        if kept:
            raise RuntimeError(f"not restarted: {', '.join(kept)}")
        return f"restarted one by one, the stack whole in between: {', '.join(self._done)}"

    def heal(self) -> None:
        """Start whatever an interrupted restart left stopped."""
        self.stack.ensure_running(*self.stack.services)

    def _restart(self, service: str) -> None:
        if service == "trader":
            self.known = self.stack.report()
        docker("restart", self.stack.container(service))


class RollingUpgrade(Fault):
    """Every Redis node and Sentinel is recreated from another Redis 7 image, one by one; the healing goes back so.

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
        changed = images.changed_settings(stack)
        if not changed:
            return ""
        return (
            f"{changed[0]} was started with other settings than those here, and would lose them when it is recreated: "
            "give ./scripts/drill the settings (environment or .env) with which the stack was started"
        )

    def prepare(self) -> None:
        """Build the other image and note what runs now."""
        images.build_upgrade(self.stack)
        self._tag = images.upgrade_tag(self.stack)
        self._before = self._running()
        self._steps: Iterator[str] = roll(
            self.stack, images.REDIS_SERVICES, lambda service: images.recreate(self.stack, service, self._tag)
        )

    def inject(self) -> None:
        """Replace the first replica."""
        self._done = [next(self._steps)]

    def confirm(self) -> str:
        """Replace the others, each when the stack is whole again, and look at what runs then."""
        self._done.extend(self._steps)
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
        for _ in images.restore(self.stack):
            pass

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
