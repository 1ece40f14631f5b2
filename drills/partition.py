"""Packet filters in the containers of a stack: who is cut off from whom, and how many packets get lost.

Each lives in one nftables table of its own in the container's network namespace, so healing is to delete that table,
and a container that was stopped has none. Dropped packets vanish, both ways: no RST, no ICMP, the other side sees
silence. The host stays allowed: whatever uses a published port comes from the network's gateway, be it through Docker's
proxy or by address translation, so a drill goes on observing a node that is cut off.
"""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from .stack import DockerError, Stack

#: Deletes the table, whether it is there or not.
CLEARED = "table inet drill\ndelete table inet drill\n"
#: Seconds in which a container beside another must have started, or ended.
_SIDECAR = 60.0
#: Applies the rules when it is told to; if whoever would tell it is gone, it ends and has changed nothing.
_WHEN_TOLD = 'echo ready && read -r go && printf %s "$1" | nft -f - && echo done'


def isolation(subnet: str, allowed: Iterable[str]) -> str:
    """Return rules that cut a container off from all of a network but the ``allowed`` addresses, its own among them."""
    return _table(_others(subnet, allowed))


def cut(addresses: Iterable[str]) -> str:
    """Return rules that cut a container off from the given addresses only."""
    listed = _set(addresses)
    return _table(lambda way: f"{way} {listed}")


def deaf(addresses: Iterable[str]) -> str:
    """Return rules under which nothing that the given addresses send arrives; what is sent to them does."""
    listed = _set(addresses)
    return _table(lambda way: f"{way} {listed}", hooks=("input",))


def loss(subnet: str, allowed: Iterable[str], percent: int) -> str:
    """Return rules that drop packets at random, each way by itself, but none from and to the ``allowed`` addresses.

    What the container sends is dropped before it has left: its own kernel notices, and sends again after its
    retransmission timeout (200 ms at first), not as early as it sometimes would for a packet lost on the way.
    """
    if not 0 < percent < 100:
        raise ValueError(f"{percent} % of the packets cannot get lost at random: 1 to 99 can")
    return _table(_others(subnet, allowed), f"numgen random mod 100 < {percent} ")


def _others(subnet: str, allowed: Iterable[str]) -> Callable[[str], str]:
    listed = _set(allowed)
    return lambda way: f"{way} {subnet} {way} != {listed}"


def _set(addresses: Iterable[str]) -> str:
    listed = sorted(set(addresses))
    if not listed:
        raise ValueError("no address: the set of a packet filter must not be empty")
    return f"{{ {', '.join(listed)} }}"


def _table(peers: Callable[[str], str], condition: str = "", hooks: Iterable[str] = ("input", "output")) -> str:
    lines = [CLEARED + "table inet drill {"]
    for hook, way in (("input", "ip saddr"), ("output", "ip daddr")):
        lines += [
            f" counter {hook}_seen {{}}",
            f" counter {hook}_dropped {{}}",
            f" chain {hook} {{",
            # Before the kernel's own tracking of connections: what is dropped must not seem to have been there.
            f"  type filter hook {hook} priority raw; policy accept;",
            *([f"  {peers(way)} counter name {hook}_seen"] if hook in hooks else []),
            *([f"  {peers(way)} {condition}counter name {hook}_dropped drop"] if hook in hooks else []),
            " }",
        ]
    return "\n".join([*lines, "}\n"])


@dataclass(frozen=True, slots=True)
class Packets:
    """What the rules of one container met so far."""

    received: int
    received_dropped: int
    sent: int
    sent_dropped: int

    @classmethod
    def parse(cls, listing: str) -> Packets:
        """Read what ``nft --json list counters`` prints. Raises ``KeyError`` if the table is not there."""
        counters = {
            entry["counter"]["name"]: int(entry["counter"]["packets"])
            for entry in json.loads(listing)["nftables"]
            if "counter" in entry and entry["counter"]["table"] == "drill"
        }
        return cls(
            counters["input_seen"], counters["input_dropped"], counters["output_seen"], counters["output_dropped"]
        )

    def __str__(self) -> str:
        """Return the counts, for people."""
        return f"{self.received_dropped} of {self.received} packets in, {self.sent_dropped} of {self.sent} out"


def packets(stack: Stack, service: str) -> Packets:
    """Return what the rules in a service's container met so far. Raises ``KeyError`` if there are none."""
    return Packets.parse(stack.beside(service, "nft", "--json", "list", "counters"))


class Filters:
    """Rules that wait beside their containers, and begin to work at all of them in the same moment.

    Starting what applies them takes half a second, and later in one container than in the other: a partition that takes
    shape container by container is another fault than the one asked for.
    """

    def __init__(self, stack: Stack, rules: Mapping[str, str]) -> None:
        self._waiting: dict[str, subprocess.Popen[str]] = {}
        try:
            for service, text in rules.items():
                self._waiting[service] = stack.start_beside(service, "sh", "-c", _WHEN_TOLD, "sh", text)
            for service in rules:
                self._expect(service, "ready")
        except BaseException:
            self.discard()
            raise

    def apply(self) -> None:
        """Have all of them work from now on. Raises ``DockerError`` if one cannot."""
        for process in self._waiting.values():
            assert process.stdin is not None
            # One that has ended says below why.
            with suppress(BrokenPipeError):
                process.stdin.write("go\n")
                process.stdin.flush()
        # Not until their containers have gone, which takes longer than the rules do.
        for service in self._waiting:
            self._expect(service, "done")

    def discard(self) -> None:
        """End what still waits, and reap what has ended; rules that work already are not taken back."""
        for process in self._waiting.values():
            if process.stdin is not None and not process.stdin.closed:
                process.communicate(timeout=_SIDECAR)

    def _expect(self, service: str, word: str) -> None:
        process = self._waiting[service]
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], _SIDECAR)
        if not ready or process.stdout.readline() != f"{word}\n":
            process.kill()
            errors = process.communicate()[1].strip()[-2000:] or f"{service} ended, or hangs"
            raise DockerError(f"the packet filter of {service}: {errors}")


def run_beside(stack: Stack, services: Iterable[str], *command: str, stdin: str = "") -> None:
    """Run a command beside those of the containers that run, at the same time.

    A container that does not run has lost its network namespace, and with it whatever was changed there.
    """

    def one(service: str) -> None:
        if not stack.inspect_container(service)["State"]["Running"]:
            return
        try:
            stack.beside(service, *command, stdin=stdin)
        except DockerError:
            # It may have ended in between.
            if stack.inspect_container(service)["State"]["Running"]:
                raise

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(one, services))


def clear(stack: Stack, services: Iterable[str]) -> None:
    """Remove the rules from the containers; those that have none stay as they are."""
    run_beside(stack, services, "nft", "-f", "-", stdin=CLEARED)
