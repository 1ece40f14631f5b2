"""Turns what ``docker compose config --format json`` prints into what ``docker stack deploy`` can read.

Both read "Compose files", but of different kinds. Nothing is left out in silence: a part that is not known here is an
error. Standard library only: it runs on the host.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

Service = dict[str, Any]

#: Passed on as they are.
_SAME = frozenset(
    {
        "cap_add",
        "cap_drop",
        "command",
        "entrypoint",
        "environment",
        "healthcheck",
        "hostname",
        "image",
        "init",
        "labels",
        "logging",
        "read_only",
        "stop_grace_period",
        "stop_signal",
        "sysctls",
        "user",
        "working_dir",
    }
)
#: Left behind, because Swarm has something else in its place (in compose/swarm.yaml), or nothing.
_LEFT_OUT = frozenset(
    {
        "build",  # images are there already
        "container_name",
        "depends_on",  # everything starts at once; the entrypoints wait for each other
        "memswap_limit",  # an option of the engine's host
        "ports",  # nothing is published
        "profiles",
        "restart",  # deploy.restart_policy
        "security_opt",  # no-new-privileges is an option of the engine: docs/swarm.md
    }
)
#: Translated below.
_TRANSLATED = frozenset(
    {"cpus", "deploy", "extra_hosts", "mem_limit", "networks", "pids_limit", "secrets", "tmpfs", "ulimits", "volumes"}
)
#: The network whose fixed addresses only one engine can give.
_ONE_ENGINE = "stack"
_HOSTS, _OVERLAY = "hosts", "calls"
#: The uids of our images: a secret belongs to whoever reads it.
_UIDS = {"nautilus-redis-ha/redis": "10002", "nautilus-redis-ha/trader": "10001"}
_SECRET_MODE = 0o400
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class StackFileError(ValueError):
    """A part cannot be expressed for Swarm; the message names it."""


class Files:
    """Files of this machine that become Swarm's secrets, each under a name that changes with its content.

    A secret of Swarm cannot be changed. With the time of the file's last change in its name a new one is another
    secret, and only the services that use it are updated; a hash would tell something about the password.
    """

    def __init__(self, stack: str) -> None:
        self._stack = stack
        self.secrets: dict[str, dict[str, str]] = {}

    def add(self, name: str, path: Path) -> str:
        """Register a file; return the name by which services refer to it."""
        try:
            with path.open("rb"):
                changed_ns = path.stat().st_mtime_ns
        except OSError as error:
            raise StackFileError(f"{path}: {error.strerror}; read by whoever deploys, root if need be") from None
        key = name.replace("/", "-")
        self.secrets[key] = {"name": f"{self._stack}_{key}-{changed_ns // 1_000_000_000}", "file": str(path)}
        return key


def stack_file(project: dict[str, Any], only: Iterable[str] = ()) -> dict[str, Any]:
    """Return the stack file of a Compose project.

    Parameters
    ----------
    project
        The project as ``docker compose config --format json`` prints it.
    only
        Names of the services to take; all if empty.

    Raises
    ------
    StackFileError
        If a part is not known here, or a file cannot be read.

    """
    files = Files(project["name"])
    addresses = _addresses(project["services"])
    wanted = list(only) or list(project["services"])
    services = {name: _service(name, project, files, addresses) for name in wanted}
    networks = {network for service in services.values() for network in service["networks"]}
    volumes = {mount["source"] for service in services.values() for mount in service["volumes"] if "source" in mount}
    return {
        # What `docker stack` of Docker 20.10 asks for; later ones ignore it.
        "version": "3.9",
        "services": services,
        "networks": {name: _without_empty(project["networks"][name]) for name in sorted(networks)},
        "volumes": {name: _without_empty(project["volumes"][name]) for name in sorted(volumes)},
        "secrets": dict(sorted(files.secrets.items())),
    }


def _addresses(services: dict[str, Service]) -> dict[str, str]:
    """Return the host's address of every node and Sentinel, by name."""
    found = {}
    for name, service in services.items():
        environment = service.get("environment", {})
        address = environment.get("NODE_IP") or environment.get("SENTINEL_IP")
        if address:
            found[name] = address
    return found


def _service(name: str, project: dict[str, Any], files: Files, addresses: dict[str, str]) -> Service:
    source = project["services"].get(name)
    if source is None:
        raise StackFileError(f"there is no service {name}")
    # What is empty says nothing, and a few empty parts are not valid in a stack file.
    source = {key: value for key, value in source.items() if value not in (None, {}, []) and not key.startswith("x-")}
    unknown = source.keys() - _SAME - _LEFT_OUT - _TRANSLATED
    if unknown:
        raise StackFileError(f"service {name}: {', '.join(sorted(unknown))}: not known to scripts/lib/stack_file.py")
    if not source.get("deploy", {}).get("placement"):
        raise StackFileError(f"service {name} has no place: compose/swarm.yaml does not know it")
    service = {key: source[key] for key in source.keys() & _SAME}
    service["environment"] = {key: value for key, value in source.get("environment", {}).items() if value is not None}
    # The addresses of one engine's network would be wrong; names that nobody has an address for are the overlay's.
    named = [entry.replace("=", ":").partition(":")[0] for entry in source.get("extra_hosts", ())]
    service["extra_hosts"] = [f"{other}:{addresses[other]}" for other in named if other in addresses]
    service["networks"] = _networks(source)
    # Compose prints a limit of 0 as nothing.
    service["ulimits"] = {limit: value or 0 for limit, value in source.get("ulimits", {}).items()}
    service["deploy"] = _deploy(source)
    mounts = list(_mounts(name, source))
    service["volumes"] = [mount for mount in mounts if "file" not in mount]
    service["secrets"] = [*_secrets(source, project, files), *_mounted_secrets(source, mounts, files)]
    return service


def _networks(source: Service) -> list[str]:
    networks = [network for network in source.get("networks", {}) if network != _ONE_ENGINE]
    # A container in its host's network is in no other.
    return [_HOSTS] if _HOSTS in networks else networks or [_OVERLAY]


def _deploy(source: Service) -> dict[str, Any]:
    limits = {
        "memory": source.get("mem_limit"),
        "pids": source.get("pids_limit"),
        "cpus": source.get("cpus"),
    }
    deploy = {**source["deploy"]}
    deploy["resources"] = {"limits": {name: _plain(name, value) for name, value in limits.items() if value}}
    return deploy


def _plain(name: str, value: Any) -> Any:
    return value if name == "pids" else str(value)


def _mounts(name: str, source: Service) -> Iterator[dict[str, Any]]:
    """Yield the volumes, and for each file of this machine that is mounted its ``file`` and ``target``."""
    for mount in source.get("volumes", ()):
        if mount["type"] == "volume":
            yield {key: mount[key] for key in ("type", "source", "target", "read_only") if key in mount}
        elif mount["type"] == "bind" and mount.get("read_only"):
            yield from _mounted_files(Path(mount["source"]), PurePosixPath(mount["target"]))
        else:
            raise StackFileError(f"service {name}: {mount['target']} is mounted from this machine, for writing")
    for entry in source.get("tmpfs", ()):
        target, _, options = entry.partition(":")
        size = dict(option.partition("=")[::2] for option in options.split(",")).get("size")
        yield {"type": "tmpfs", "target": target} | ({"tmpfs": {"size": _bytes(size)}} if size else {})


def _bytes(size: str) -> int:
    """Return a size such as ``16m`` in bytes."""
    factor = _UNITS.get(size[-1].lower(), 1)
    return int(size.rstrip("kmgKMG")) * factor


def _mounted_files(source: Path, target: PurePosixPath) -> Iterator[dict[str, Any]]:
    if source.is_file():
        yield {"file": source, "target": str(target)}
        return
    paths = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else []
    if not paths:
        raise StackFileError(f"{source}: no such file, and no directory with files in it")
    for path in paths:
        yield {"file": path, "target": str(target / path.relative_to(source).as_posix())}


def _secrets(source: Service, project: dict[str, Any], files: Files) -> Iterator[dict[str, Any]]:
    for secret in source.get("secrets", ()):
        key = files.add(secret["source"], Path(project["secrets"][secret["source"]]["file"]))
        yield _owned(source, key, secret.get("target") or secret["source"])


def _mounted_secrets(source: Service, mounts: list[dict[str, Any]], files: Files) -> Iterator[dict[str, Any]]:
    for mount in mounts:
        if "file" in mount:
            path = mount["file"]
            yield _owned(source, files.add(f"{path.parent.name}-{path.name}", path), mount["target"])


def _owned(source: Service, key: str, target: str) -> dict[str, Any]:
    uid = _UIDS.get(source["image"].rpartition(":")[0])
    if uid is None:
        raise StackFileError(f"image {source['image']}: nobody knows which uid reads {target}")
    return {"source": key, "target": target, "uid": uid, "gid": uid, "mode": _SECRET_MODE}


def _without_empty(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if value not in (None, {}, [])}


def main(arguments: list[str]) -> int:
    """Read a Compose project from standard input, print the stack file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("services", nargs="*", help="the services to take; default: all")
    options = parser.parse_args(arguments)
    try:
        rendered = stack_file(json.load(sys.stdin), options.services)
    except StackFileError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(rendered, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
