"""Sentinels that die, forget, or are too few."""

from __future__ import annotations

import time

from drills.stack import MASTER_NAME, SENTINELS
from drills.waiting import wait_until

from .base import FAILOVER, Fault
from .nodes import KillMaster

#: Seconds without a promotion that prove that there is none: a failover begins within about one, and takes two.
_NO_FAILOVER = 5.0
#: Down-afters after which a Sentinel of Redis' own ways, that has just started, promotes no replica any more: ten.
_LATE = 12.0


class SentinelKilled(Fault):
    """SIGKILL of one Sentinel: an everyday fault that nobody may notice."""

    name = "sentinel-killed"
    summary = "one Sentinel is killed; the other two could still fail over, and nobody waits"
    changes_master = False
    interrupts_writes = False
    interrupts_trader = False

    def prepare(self) -> None:
        """Choose the Sentinel."""
        self._sentinel = self.random.choice(SENTINELS)
        self._left = [sentinel for sentinel in SENTINELS if sentinel != self._sentinel]

    def inject(self) -> None:
        """Kill it."""
        self.stack.kill(self._sentinel)

    def confirm(self) -> str:
        """Wait until the others have noticed, and ask them whether they could fail over."""
        address = self.stack.ip(self._sentinel)

        def noticed(sentinel: str) -> bool:
            answer = self.stack.client(sentinel).execute_command("SENTINEL", "SENTINELS", MASTER_NAME)
            others = [dict(zip(other[::2], other[1::2], strict=True)) for other in answer]
            return any(other["ip"] == address and "s_down" in other["flags"].split(",") for other in others)

        for sentinel in self._left:
            wait_until(lambda sentinel=sentinel: noticed(sentinel), FAILOVER, f"{sentinel} misses {self._sentinel}")
            answer = str(self.stack.client(sentinel).execute_command("SENTINEL", "CKQUORUM", MASTER_NAME))
            if not answer.startswith("OK"):
                raise RuntimeError(f"{sentinel} could not fail over any more: {answer}")
        return f"{' and '.join(self._left)} miss {self._sentinel} and could fail over without it"

    def heal(self) -> None:
        """Start it again."""
        self.stack.ensure_running(self._sentinel)


class SentinelsRestartedInOutage(KillMaster):
    """The master is killed and so are all Sentinels, which are started again at once.

    What they know (who was the master, the replicas, each other, the epoch) comes from their volumes alone.
    """

    name = "sentinels-restarted-in-outage"
    summary = "the master is killed and all Sentinels are restarted before they can do anything about it"

    def prepare(self) -> None:
        """Remember which processes and which epoch the Sentinels have."""
        self._started = self.stack.start_times()
        self._epoch = self._config_epoch(SENTINELS[0])

    def inject(self) -> None:
        """Kill all of them in one moment, start the Sentinels."""
        self.stack.kill(self.master, *SENTINELS)
        self.stack.start(*SENTINELS)

    def confirm(self) -> str:
        """Wait for the promotion by Sentinels that are new processes and count on from the epoch of before."""
        promoted = self.confirm_promotion()
        now = self.stack.start_times()
        survivors = [sentinel for sentinel in SENTINELS if now[sentinel] == self._started[sentinel]]
        if survivors:
            raise RuntimeError(f"{', '.join(survivors)} was not restarted")
        epoch = max(self._config_epoch(sentinel) for sentinel in SENTINELS)
        if epoch <= self._epoch:
            raise RuntimeError(f"the Sentinels have forgotten their epoch: {self._epoch} before, {epoch} now")
        return f"all Sentinels were restarted without a master; {promoted}, epoch {self._epoch} -> {epoch}"

    def heal(self) -> None:
        """Start whatever is down."""
        self.stack.ensure_running(*SENTINELS, self.master)

    def _config_epoch(self, sentinel: str) -> int:
        return int(self.stack.seen_by(sentinel)["config-epoch"])


class SentinelsReturnLate(SentinelsRestartedInOutage):
    """The master and all Sentinels are killed, and the Sentinels come back when the replicas have long been alone.

    By itself a Sentinel promotes no replica that was without a master for much longer than the Sentinel saw it down.
    """

    name = "sentinels-return-late"
    summary = "the master and all Sentinels are killed; the Sentinels return only after many down-afters"

    def inject(self) -> None:
        """Kill all of them in one moment, start the Sentinels after a while."""
        self.stack.kill(self.master, *SENTINELS)
        self.struck = time.time()
        self.linger(_LATE * self._down_after)
        self.stack.start(*SENTINELS)

    def prepare(self) -> None:
        """Remember how patient the Sentinels are, too."""
        super().prepare()
        self._down_after = max(int(self.stack.seen_by(one)["down-after-milliseconds"]) for one in SENTINELS) / 1000


class TwoSentinelsGone(KillMaster):
    """Two of three Sentinels are killed, then the master: no failover may happen before one of them is back."""

    name = "two-sentinels-gone"
    summary = "two Sentinels and then the master are killed: writes are held, and no minority promotes anybody"
    promotes_unhealed = False
    resumes_unhealed = False

    def prepare(self) -> None:
        """Choose the Sentinels."""
        self._gone = sorted(self.random.sample(SENTINELS, 2))
        self._left = next(sentinel for sentinel in SENTINELS if sentinel not in self._gone)

    def inject(self) -> None:
        """Kill them, then the master: a failover must not be under way when they go."""
        self.stack.kill(*self._gone)
        self.stack.kill(self.master)

    def confirm(self) -> str:
        """Wait until the link holds and the last Sentinel has noticed, and then long enough for a failover."""
        wait_until(self.stack.holding, FAILOVER, "the link holds writes")
        wait_until(self._suspected, FAILOVER, f"{self._left} notices that {self.master} is down")
        self.linger(_NO_FAILOVER)
        roles = {node: self.stack.role(node) for node in self.replicas}
        if set(roles.values()) != {"slave"}:
            raise RuntimeError(f"promoted by a minority of the Sentinels: {roles}")
        if not self.stack.holding():
            raise RuntimeError("the link does not hold writes any more, and there is no master")
        return (
            f"{self._left} alone saw {self.master} down and promoted nobody for {_NO_FAILOVER:g} s: "
            f"{' and '.join(self.replicas)} are replicas, the link holds writes"
        )

    def heal(self) -> None:
        """Start the Sentinels, let them fail over, start the old master."""
        self.stack.ensure_running(*self._gone)
        try:
            if not self.stack.running(self.master):
                self.confirm_promotion()
        finally:
            super().heal()

    def _suspected(self) -> bool:
        return "s_down" in self.stack.seen_by(self._left)["flags"].split(",")


FAULTS: tuple[type[Fault], ...] = (SentinelKilled, SentinelsRestartedInOutage, SentinelsReturnLate, TwoSentinelsGone)
