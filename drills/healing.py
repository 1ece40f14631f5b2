"""Repairs whatever a drill has left broken, without knowing which: for Ctrl-C, ``--heal`` and a start after a crash.

Nothing is remembered between runs: containers, settings and filters are compared with what the stack was started with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from . import images
from .faults.network import heal_network
from .stack import HELPER_LABEL, MASTER_NAME, NODES, SENTINELS, DockerError, Stack, docker, environment_of
from .waiting import wait_until

#: Appended by redis-conf/entrypoint.sh, from the container's environment or with these defaults.
_FROM_ENVIRONMENT = {
    "maxmemory": ("REDIS_MAXMEMORY", "512mb"),
    "min-replicas-to-write": ("REDIS_MIN_REPLICAS", "1"),
    "min-replicas-max-lag": ("REDIS_MIN_REPLICAS_MAX_LAG", "2"),
}
#: What a running server cannot change, or has no name for in CONFIG SET.
_FIXED = frozenset({"port", "bind", "dir"})
_UNITS = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "k": 10**3, "m": 10**6, "g": 10**9}
#: Seconds in which a Sentinel that has just started comes to its steady pace by itself, see sentinel-conf/settle.sh.
_SETTLING = 20.0
#: Prints what a network fault has left in a container.
_NETWORK = """
if nft list table inet drill >/dev/null 2>&1; then echo 'packet filter'; fi
if tc qdisc show | grep -q netem; then echo 'delay of packets'; fi
"""
#: Lifts limits on the size of files, and prints from how many processes.
_UNLIMIT = """
limited=0
for process in /proc/[0-9]*; do
    soft=$(awk '/^Max file size/ { print $4 }' "$process/limits" 2>/dev/null) || continue
    if [ "${soft:-unlimited}" != unlimited ]; then
        prlimit --pid "${process#/proc/}" --fsize=unlimited: && limited=$((limited + 1))
    fi
done
echo "$limited"
"""


def heal_everything(stack: Stack, seconds: float) -> list[str]:
    """Undo whatever any fault may have done to a stack, and wait until it is whole and trades; return what was undone.

    It may be called at any time, also on a stack that is well, and also twice. ``seconds`` bounds each wait.

    Raises
    ------
    TimeoutError
        If the stack does not become well; it says what is missing.
    DockerError
        If Docker refuses something.

    """
    if "trader" not in stack.containers():
        raise DockerError(
            f'the stack "{stack.project}" has no trader, so there is nothing to heal: ./scripts/up starts it'
        )
    undone = [
        *_remove_helpers(stack),
        *_recreate_absent(stack),
        *stack.revive(),
        # Before the wait, because a node that refuses writes never becomes well, and again when all of them answer.
        *_heal_nodes(stack),
        *_heal_network(stack),
        *_heal_limits(stack),
    ]
    stack.wait_until_well(seconds)
    undone += _heal_nodes(stack)
    undone += _heal_sentinels(stack)
    undone += [f"{service}: back to the configured image" for service in images.restore(stack)]
    stack.wait_until_well(seconds)
    return undone


def _remove_helpers(stack: Stack) -> Iterator[str]:
    """Remove the containers that drills ran beside the stack: traffic, and filters that wait for their moment."""
    found = docker("ps", "--all", "--filter", f"label={HELPER_LABEL}={stack.project}", "--format", "{{.ID}} {{.Names}}")
    for line in found.splitlines():
        identifier, name = line.split()
        # It may end, and be removed, by itself.
        with suppress(DockerError):
            docker("rm", "--force", "--volumes", identifier)
            yield f"removed the helper container {name}"


def _recreate_absent(stack: Stack) -> Iterator[str]:
    """Create what an interrupted upgrade has removed; Compose renames a new container only when the old one is gone."""
    expected = {stack.container(service) for service in stack.services}
    found = docker(
        *("ps", "--all", "--filter", f"label=com.docker.compose.project={stack.project}"),
        *("--filter", "label=com.docker.compose.oneoff=False"),
        *("--format", '{{.Names}} {{.Label "com.docker.compose.service"}}'),
    )
    names = dict(line.split() for line in found.splitlines())
    for name, service in names.items():
        if name not in expected and service in images.REDIS_SERVICES:
            docker("rm", "--force", name)
            yield f"removed {name}, which an interrupted upgrade had left"
    tag = images.configured_tag(stack)
    for service in images.REDIS_SERVICES:
        if stack.container(service) not in names:
            images.recreate(stack, service, tag)
            yield f"{service}: created again"


def _heal_network(stack: Stack) -> list[str]:
    def left_in(service: str) -> list[str]:
        try:
            return [
                f"{service}: removed the {what}" for what in stack.beside(service, "sh", "-c", _NETWORK).splitlines()
            ]
        except DockerError:
            # It may just have ended, and lost its network namespace with all that was in it.
            if stack.running(service):
                raise
            return []

    with ThreadPoolExecutor(3) as pool:
        found = [line for lines in pool.map(left_in, stack.services) for line in lines]
    if found:
        heal_network(stack)
    return found


def _heal_limits(stack: Stack) -> Iterator[str]:
    for service, container in stack.containers().items():
        if service not in NODES or not container["State"]["Running"]:
            continue
        # As the processes' own user, who needs no privilege for it.
        user = container["Config"]["User"]
        limited = int(stack.beside(service, "sh", "-euc", _UNLIMIT, options=("--user", user)))
        if limited:
            yield f"{service}: files may grow again ({limited} processes had a limit)"


def _heal_nodes(stack: Stack) -> Iterator[str]:
    for node, container in stack.containers().items():
        if node in NODES:
            # One that does not answer reads its settings anew when it starts.
            with suppress(RedisError, OSError, DockerError):
                yield from _heal_node(stack, node, container)


def _heal_node(stack: Stack, node: str, container: Mapping[str, Any]) -> Iterator[str]:
    client: Any = stack.client(node)
    wanted = node_settings(stack.execute(node, "cat", "/opt/redis-node/redis.conf"), environment_of(container))
    is_set: Mapping[str, str] = client.config_get("*")
    for name, value in wanted.items():
        if not same(is_set[name], value):
            client.config_set(name, value)
            yield f"{node}: {name} {is_set[name]} -> {value}"
    # A replica that started on an empty disk has 0 until it has its first copy, see redis-conf/first-sync.sh.
    if is_set["replica-priority"] != "100" and not _first_sync_pending(stack, node):
        client.config_set("replica-priority", 100)
        yield f"{node}: replica-priority {is_set['replica-priority']} -> 100"


def _first_sync_pending(stack: Stack, node: str) -> bool:
    script = "if [ -e /data/first-sync-pending ]; then echo pending; fi"
    return bool(stack.execute(node, "sh", "-c", script).strip())


def node_settings(config: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that a node starts with: those of redis.conf, and those that its environment gives."""
    wanted = {}
    for line in config.splitlines():
        name, _, value = line.strip().partition(" ")
        if name and not name.startswith("#") and name not in _FIXED:
            wanted[name] = value.strip().strip('"')
    for name, (variable, default) in _FROM_ENVIRONMENT.items():
        wanted[name] = environment.get(variable) or default
    return wanted


def same(one: str, other: str) -> bool:
    """Whether two values of a setting mean the same; sizes may have units."""
    return _plain(one) == _plain(other)


def _plain(value: str) -> str:
    text = value.strip().lower()
    digits = text.rstrip("kmgb")
    if digits.isdigit():
        return str(int(digits) * _UNITS.get(text[len(digits) :], 1))
    return text


def _heal_sentinels(stack: Stack) -> Iterator[str]:
    for sentinel in SENTINELS:
        wanted = sentinel_settings(environment_of(stack.inspect_container(sentinel)))

        def different(sentinel: str = sentinel, wanted: dict[str, str] = wanted) -> dict[str, str]:
            seen = stack.seen_by(sentinel)
            return {name: seen[name] for name, value in wanted.items() if seen[name] != value}

        with suppress(TimeoutError):
            wait_until(lambda: not different(), _SETTLING, f"{sentinel} has its own settings", 0.5)
        client: Any = stack.client(sentinel)
        for name, value in different().items():
            client.execute_command("SENTINEL", "SET", MASTER_NAME, name, wanted[name])
            yield f"{sentinel}: {name} {value} -> {wanted[name]}"


def sentinel_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings for the master with which a Sentinel works once it has settled.

    The first Sentinel of the list waits 30 % less than the last one, those between in equal steps:
    ``own_share_of_ms`` of sentinel-conf/settle.sh.
    """
    after = int(environment.get("SENTINEL_DOWN_AFTER_MS") or 1000)
    listed = environment["SENTINELS"].split()
    own = f"{environment['SENTINEL_IP']}:{environment.get('SENTINEL_PORT') or 26379}"
    earlier = 0
    if own in listed and len(listed) > 1:
        rank = listed.index(own) + 1
        earlier = after * 30 * (len(listed) - rank) // (len(listed) - 1) // 100
    return {
        "down-after-milliseconds": str(after - earlier),
        "failover-timeout": environment.get("SENTINEL_FAILOVER_TIMEOUT_MS") or "3000",
        "parallel-syncs": "1",
        "quorum": environment.get("SENTINEL_QUORUM") or "2",
    }
