"""What the tests of backups share: taking one under live trading, damaging one, reading one."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from drills.stack import Stack, docker, environment_of

from .stacks import run_script

Record = dict[str, Any]
_SECTIONS = ("positions", "orders")
_PROBE = "backup-probe"
#: Seconds for a single write on the master, on a machine that does much else. A write waits for some 5 ms.
LONGEST_WRITE = 1.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup, and what the node knew before and after it was taken."""

    folder: Path
    known: Record
    later: Record
    #: Of all writes that a client of the master made meanwhile, in seconds.
    longest_write: float
    writes: int
    said: str

    @property
    def manifest(self) -> Record:
        """What the backup says of itself."""
        manifest: Record = json.loads((self.folder / "manifest.json").read_text())
        return manifest


def settings_of(stack: Stack) -> dict[str, str]:
    """Return the environment in which our scripts mean this stack and its images."""
    tag = stack.inspect_container("trader")["Config"]["Image"].rpartition(":")[2]
    return {**stack.environment, "COMPOSE_PROJECT_NAME": stack.project, "IMAGE_TAG": tag}


def take(stack: Stack, directory: Path, settings: Mapping[str, str] | None = None) -> Taken:
    """Take a backup while the node trades and another client measures the master."""
    known = stack.report()
    # What Nautilus still buffers is in Redis a few batches later.
    stack.wait_for_writes(3)
    with _measured(stack) as times:
        said = run_script(settings or settings_of(stack), "backup", "--to", str(directory))
    later = stack.report()
    folder = max(path for path in directory.iterdir() if not path.name.startswith("."))
    return Taken(folder, known, later, max(times), len(times), said)


@contextmanager
def _measured(stack: Stack) -> Iterator[list[float]]:
    """Write to the master all the time; yields how many seconds each write took."""
    master, times, stop = stack.client(stack.master(), 10.0), [], threading.Event()
    errors: list[Exception] = []

    def write() -> None:
        while not stop.wait(0.01):
            began = time.monotonic()
            try:
                master.set(_PROBE, began)
            except RedisError as error:
                errors.append(error)
            times.append(time.monotonic() - began)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield times
    finally:
        stop.set()
        thread.join()
        master.delete(_PROBE)
    assert not errors, errors[0]


def check_contents(held: Record, taken: Taken) -> str:
    """Compare every position and order of a backup with what the node knew before and after; return the counts.

    Whatever it knew before has to be there, with all its events; nothing may be there that it did not know after, or
    otherwise. What it forgot meanwhile, closed for long, may be there or not.
    """
    counts = []
    for section in _SECTIONS:
        known, later, found = taken.known[section], taken.later[section], held[section]
        assert found, f"no {section} were compared"
        for key, record in known.items():
            assert key in found or key not in later, f"{section}/{key}: known before the backup, and not in it"
            if key in found:
                events = found[key]["events"][: len(record["events"])]
                assert events == record["events"], f"{section}/{key}: other events than the node knew before"
        for key, record in found.items():
            reference = later.get(key, known.get(key))
            assert reference is not None, f"{section}/{key}: in the backup, and the node never knew it"
            events = reference["events"][: len(record["events"])]
            assert events == record["events"], f"{section}/{key}: other events than the node knows"
            if len(reference["events"]) == len(record["events"]):
                assert record == reference, f"{section}/{key}"
        counts.append(f"{len(found)} {section}")
    return ", ".join(counts)


@contextmanager
def loaded(stack: Stack, backup: Path) -> Iterator[str]:
    """Load the AOF of a backup into a Redis that nobody reaches; yields the name of its container."""
    image = stack.inspect_container("redis-1")["Config"]["Image"]
    name = f"{stack.project}-loaded-{secrets.token_hex(3)}"
    options = ["--dir", "/tmp", "--appendonly", "yes", "--save", ""]  # noqa: S108
    docker(
        *("create", "--name", name, "--network", "none", "--user", "0:0", "--entrypoint", "redis-server"),
        *(image, *options),
    )
    try:
        docker("cp", str(backup / "appendonlydir"), f"{name}:/tmp/appendonlydir")
        docker("start", name)
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def inspect_loaded(stack: Stack, container: str) -> Record:
    """Return the node's record, rebuilt from what such a Redis holds."""
    return _inspect(stack, f"container:{container}", "127.0.0.1:6379")


def inspect_restored(stack: Stack, network: str, address: str) -> Record:
    """The same, from a node of a stack without a trader."""
    return _inspect(stack, network, address)


def _inspect(stack: Stack, network: str, address: str) -> Record:
    trader = stack.inspect_container("trader")
    encoding = environment_of(trader).get("CACHE_ENCODING", "msgpack")
    command = ["python", "-m", "trader_node.inspect", "--json", "--trader", stack.trader_id, "--address", address]
    environment = (f"REDIS_URL=redis://{address}", f"CACHE_ENCODING={encoding}")
    options = [part for each in environment for part in ("--env", each)]
    record: Record = json.loads(
        docker("run", "--rm", "--network", network, *options, trader["Config"]["Image"], *command)
    )
    return record


def damaged(backup: Path, to: Path, name: str, *, sums_follow: bool) -> Path:
    """Copy a backup with one byte changed in the middle of a file; ``sums_follow``: its checksum is made to fit."""
    shutil.copytree(backup, to)
    (path,) = (path for path in to.rglob("*") if path.name == name or path.name.endswith(name))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    if sums_follow:
        refit_sums(to)
    return to


def refit_sums(backup: Path) -> None:
    """Make the checksums those of the files."""
    files = sorted(str(path.relative_to(backup)) for path in backup.rglob("*") if path.is_file())
    files.remove("SHA256SUMS")
    sums = subprocess.run(["sha256sum", *files], cwd=backup, capture_output=True, text=True, check=True).stdout
    (backup / "SHA256SUMS").write_text(sums)
