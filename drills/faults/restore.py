"""All disks of Redis are lost, and a backup is all there is."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from drills import images
from drills.containers import compose_files_of
from drills.scripts import run_on
from drills.stack import NODES, SENTINELS, Stack, docker
from drills.waiting import wait_until

from .base import FAILOVER, Fault

#: Empties every volume that is mounted below /volumes.
_EMPTY = "find /volumes -mindepth 2 -delete; find /volumes -mindepth 2 | grep . && exit 1; exit 0"


class Restore(Fault):
    """A backup is taken while everything trades; then all containers die, and Redis and the Sentinels lose their disks.

    ``./scripts/restore`` brings the stack up from the backup, and the links send again what came after it: the trader's
    from its journal on the disk, which is another volume, the appender's from the one that it runs with.
    """

    name = "restore"
    summary = "all disks of Redis and of the Sentinels are lost, and the stack is restored from a backup of before"
    #: The backup goes to the first node.
    changes_master = None
    restarts_trader = True

    @classmethod
    def unavailable(cls, stack: Stack) -> str:
        """Return why this stack's containers must not, or cannot, be made anew from here.

        It is asked before anything is lost: ./scripts/restore starts what ./scripts/up knows, and refuses the rest.
        """
        known = {stack.root / "compose.yaml", *(stack.root / "compose").glob("*.yaml")}
        containers = stack.containers()
        foreign = [file for file in compose_files_of(containers) if file not in known]
        if foreign:
            return (
                f"the stack was started with {foreign[0]}, which ./scripts/restore does not use: it could not start it "
                "again when everything is gone"
            )
        # Not the Redis services alone, as other drills: everything is made anew.
        return images.refuse_recreation(stack, containers)

    def prepare(self) -> None:
        """Take the backup while everything trades."""
        self._folder = Path(tempfile.mkdtemp(prefix="restore-drill-"))
        self._lost = False
        # The drill's own traffic is told by its name: it has the labels of its image.
        self._started = {
            service: state["State"]["StartedAt"]
            for service, state in self.stack.containers().items()
            if state["Name"] == f"/{self.stack.container(service)}"
        }
        self._script("backup", "--to", str(self._folder))
        (self._backup,) = (path for path in self._folder.iterdir() if not path.name.startswith("."))

    def inject(self) -> None:
        """Kill everything, and empty the volumes."""
        lost = (*NODES, *SENTINELS)
        self._marker = self.stack.marker(self.master)[1]
        self.stack.kill(*self._started)
        self.struck = time.time()
        self._lost = True
        volumes = [part for each in lost for part in ("--volume", f"{self.stack.project}_{each}:/volumes/{each}")]
        docker(
            *("run", "--rm", "--network", "none", "--user", "0:0", *volumes),
            *("--entrypoint", "sh", self.stack.image, "-euc", _EMPTY),
        )

    def confirm(self) -> str:
        """Restore, and wait until the link of the new node has sent again what the backup lacks."""
        try:
            said = self._script("restore", str(self._backup))
        except RuntimeError as error:
            raise RuntimeError(
                f"the backup stays, {self._backup}, for nothing else holds these data: {error}"
            ) from None
        self._lost = False
        now = self.stack.start_times()
        kept = [service for service, began in self._started.items() if now[service] == began]
        if kept:
            raise RuntimeError(f"not started anew: {', '.join(kept)}")
        if "hold what the backup holds" not in said:
            raise RuntimeError("the restored nodes were not compared with the backup")
        stack = self.stack
        wait_until(lambda: stack.link()["state"] == "ready", FAILOVER, "the link applies writes again")
        replayed = stack.link()["replayed"]
        held = stack.marker(stack.master())[1]
        if held < self._marker or not replayed:
            raise RuntimeError(
                f"the data set ends at entry {held} after {replayed} were sent again, and it had {self._marker} before"
            )
        return (
            f"all of {', '.join(self._started)} were killed and the disks of Redis and the Sentinels emptied; restored "
            f"from {self._backup.name} on {stack.master()}; the trader's link sent {replayed} entries again that the "
            "backup lacked"
        )

    def heal(self) -> None:
        """Start whatever is still down; the backup goes unless it is all there is."""
        self.stack.ensure_running(*self._started)
        if not self._lost:
            shutil.rmtree(self._folder)

    def _script(self, name: str, *arguments: str) -> str:
        tag = images.configured_tag(self.stack)
        return run_on(self.stack, name, *arguments, environment={"IMAGE_TAG": tag})


FAULTS: tuple[type[Fault], ...] = (Restore,)
