"""Faults of the nodes' disks: what was written and not forced there yet, what is damaged, what is gone."""

from __future__ import annotations

import time

from drills.stack import NODES, Stack
from drills.waiting import wait_until

from .base import FAILOVER, Fault
from .nodes import KillMaster

#: Bounds, in seconds, of what a power loss takes: with ``appendfsync everysec`` the file is forced to disk once a
#: second, and a slow disk may delay that by another one.
_UNFORCED = (0.2, 2.0)

#: Takes ``$1`` bytes off the end of the newest incremental file of the AOF, or all it has; prints the sizes before and
#: after. The base file was forced to disk before it was named in the manifest.
_CUT = """
cd /data/appendonlydir
file=$(awk '$5 == "type" && $6 == "i" { name = $2 } END { print name }' ./*.manifest)
before=$(stat -c %s "$file")
cut=$1
[ "$cut" -le "$before" ] || cut=$before
truncate -s "-$cut" "$file"
echo "$before" "$(stat -c %s "$file")"
"""


#: Overwrites the last ``$1`` bytes of the same file, and some more behind its end, with garbage that no command begins
#: with; prints the size before and after.
_DAMAGE = """
cd /data/appendonlydir
file=$(awk '$5 == "type" && $6 == "i" { name = $2 } END { print name }' ./*.manifest)
before=$(stat -c %s "$file")
cut=$1
[ "$cut" -le "$before" ] || cut=$before
head -c "$((cut + 65536))" /dev/urandom | tr '*$\\n' '.' |
    dd of="$file" bs=64k oflag=seek_bytes seek="$((before - cut))" conv=notrunc status=none
echo "$before" "$(stat -c %s "$file")"
"""


#: Where ``redis-conf/entrypoint.sh`` keeps what Redis could not load.
_KEPT = "/data/damaged-appendonlydir"


def damage_aof(stack: Stack, node: str, tail: int) -> tuple[int, int]:
    """Turn the last ``tail`` bytes of a stopped node's AOF into garbage; return its size in bytes before and after."""
    before, after = map(int, stack.on_volume(node, _DAMAGE, str(tail)).split())
    return before, after


class PowerLoss(KillMaster):
    """SIGKILL of the master, and its disk lacks what had not been forced there; later it comes back as a replica."""

    name = "power-loss"
    summary = "the master's host loses power: the tail of its AOF is gone"

    def prepare(self) -> None:
        """Measure how fast the AOF grows, which tells how many bytes the last second or two are."""
        sizes = [self._aof_bytes()]
        began = time.monotonic()
        self.linger(1.0)
        sizes.append(self._aof_bytes())
        # A rewrite in between makes it smaller.
        self._per_second = max(sizes[1] - sizes[0], 1000) / (time.monotonic() - began)

    def confirm(self) -> str:
        """Cut the tail off, and wait for the promotion."""
        return f"{self._cut(self.master)}; {self.confirm_promotion()}"

    def _aof_bytes(self) -> int:
        return int(self.stack.client(self.master).info("persistence")["aof_current_size"])

    def _cut(self, node: str) -> str:
        # Any byte: most often in the middle of a command.
        tail = int(self._per_second * self.random.uniform(*_UNFORCED))
        before, after = map(int, self.stack.on_volume(node, _CUT, str(tail)).split())
        if after >= before:
            raise RuntimeError(f"the AOF of {node} has {before} bytes and cannot be cut by {tail}")
        return f"the AOF of {node} was cut from {before} to {after} bytes"


class PowerLossOfAll(PowerLoss):
    """All nodes are killed in one moment, and the disk of each lacks another part of what was written last.

    The newest acknowledged writes are on no node any more: only the links' journals have them.
    """

    name = "power-loss-of-all"
    summary = "all Redis hosts lose power in one moment: the tail of every AOF is gone, and only the journal has it"
    #: Whichever the Sentinels name, with whatever its disk holds.
    changes_master = None

    def inject(self) -> None:
        """Kill all nodes; the master first, or the others would miss no write."""
        self._replayed = self.stack.link()["replayed"]
        self.stack.kill(self.master, *self.replicas)

    def confirm(self) -> str:
        """Cut all tails, start the nodes, and wait until the trader's link has sent again what no node has."""
        cuts = "; ".join(self._cut(node) for node in NODES)
        self.stack.start(*NODES)
        wait_until(lambda: self.stack.link()["state"] == "ready", FAILOVER, "the link applies writes")
        replayed = self.stack.link()["replayed"] - self._replayed
        if replayed <= 0:
            raise RuntimeError(f"{cuts}; and yet some node still had everything: nothing was lost by Redis")
        self._start_again()
        return (
            f"{cuts}; the trader's link sent {replayed} writes again that no node had any more; all started once more"
        )

    def _start_again(self) -> None:
        """Kill and start all nodes: what they have appended behind a torn tail has to be read as it was applied."""
        self.stack.wait_for_writes(20, FAILOVER)
        self.stack.kill(*NODES)
        self.stack.start(*NODES)
        wait_until(lambda: self.stack.link()["state"] == "ready", FAILOVER, "the link applies writes")

    def heal(self) -> None:
        """Start them again."""
        self.stack.ensure_running(*NODES)


class CorruptAof(PowerLoss):
    """SIGKILL of the master, and the tail of its AOF is garbage: Redis does not start on it.

    It has to come back as a replica by itself, with a copy of everything, and to keep what was damaged.
    """

    name = "corrupt-aof"
    summary = "the master is killed and the tail of its AOF is garbage, with which Redis does not start"

    def confirm(self) -> str:
        """Damage the file, start the node, wait for the promotion and until the node has repaired itself."""
        before, after = damage_aof(self.stack, self.master, int(self._per_second))
        self.stack.start(self.master)
        promoted = self.confirm_promotion()
        master = self.stack.promoted(self.master)
        wait_until(lambda: self.stack.has_replicas(master, 2), FAILOVER, f"{self.master} has copied everything", 0.05)
        kept = self.stack.on_volume(self.master, f"cat {_KEPT}/*.incr.aof | wc -c").strip()
        if int(kept) < after:
            raise RuntimeError(f"{self.master} does not keep its damaged AOF in {_KEPT}: {kept} bytes, not {after}")
        return f"the AOF of {self.master} ends in garbage ({before} bytes before, {after} now, kept); {promoted}"


class LostDisk(KillMaster):
    """The master dies and its disk is gone; it comes back empty, and must neither be promoted nor empty the others."""

    name = "lost-disk"
    summary = "the master is killed and its disk is lost: it comes back with an empty one"

    def confirm(self) -> str:
        """Empty the disk, start the node while the Sentinels may still name it, and wait for the promotion."""
        self.stack.on_volume(self.master, "find /data -mindepth 1 -delete")
        left = self.stack.on_volume(self.master, "find /data -mindepth 1").split()
        if left:
            raise RuntimeError(f"the disk of {self.master} still holds {', '.join(left)}")
        self.stack.start(self.master)
        return f"the disk of {self.master} was emptied; {self.confirm_promotion()}"


class ReplicaFullResync(Fault):
    """A replica dies and comes back at once: whatever its AOF holds, it copies the whole data set."""

    name = "replica-full-resync"
    summary = "a replica is killed and copies the whole data set from the master under traffic"
    changes_master = False
    interrupts_writes = False
    interrupts_trader = False

    def prepare(self) -> None:
        """Choose the replica."""
        self._replica = self.random.choice(self.replicas)
        self._copies = self._full_copies()

    def inject(self) -> None:
        """Kill it and start it."""
        self.stack.kill(self._replica)
        self.stack.start(self._replica)

    def confirm(self) -> str:
        """Wait until the master has sent a full copy and both replicas follow."""
        wait_until(lambda: self._full_copies() > self._copies, FAILOVER, f"a full copy to {self._replica}", 0.05)
        wait_until(lambda: self.stack.has_replicas(self.master, 2), FAILOVER, "both replicas follow", 0.05)
        return f"{self._replica} copied everything: sync_full of {self.master} rose from {self._copies}"

    def heal(self) -> None:
        """Start it again."""
        self.stack.ensure_running(self._replica)

    def _full_copies(self) -> int:
        return int(self.stack.client(self.master).info("stats")["sync_full"])


FAULTS: tuple[type[Fault], ...] = (PowerLoss, PowerLossOfAll, CorruptAof, LostDisk, ReplicaFullResync)
