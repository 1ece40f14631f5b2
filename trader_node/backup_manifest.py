"""The manifest of a backup: ``python -m trader_node.backup_manifest COMMAND``.

Reads stdin and writes stdout, nothing else: ./scripts/backup and ./scripts/restore know where backups are. Facts are
lines of fields separated by tabs, as ``redis-conf/backup-check.sh`` prints them; the last field is the value, those
before it are the path to it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

FORMAT = 1
#: The two forms of the data; each alone is enough for a restore.
PARTS = ("aof", "rdb")
#: What must be the same whenever a part is loaded.
_CONTENTS = ("keys", "traders")

Manifest = dict[str, Any]


class ManifestError(RuntimeError):
    """A manifest, or what was found in a backup, is not what it has to be; the message says what."""


def nested(lines: Iterable[str]) -> dict[str, Any]:
    """Return facts as nested dictionaries; values of digits alone become numbers."""
    facts: dict[str, Any] = {}
    for line in lines:
        if not line.strip():
            continue
        *path, value = line.rstrip("\n").split("\t")
        place = facts
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = int(value) if value.isdecimal() else value
    return facts


def compose(facts: dict[str, Any]) -> Manifest:
    """Return the manifest of a backup.

    Raises
    ------
    ManifestError
        If a form of the data lacks its counts: then it was not loaded, and the backup is none. Or if the AOF is older
        than the snapshot, which was taken before it: then its end is missing.

    """
    for part in PARTS:
        if "keys" not in facts.get(part, {}):
            raise ManifestError(f"the backup was not loaded: nothing is known of its {part.upper()}")
    for trader, snapshot in facts["rdb"].get("traders", {}).items():
        _check_end(trader, facts["aof"].get("traders", {}).get(trader, {}), snapshot)
    created = datetime.fromtimestamp(facts["node"].pop("unix_time"), UTC)
    return {"format": FORMAT, "created": created.isoformat(), **facts}


def _check_end(trader: str, aof: dict[str, Any], snapshot: dict[str, Any]) -> None:
    """Compare the markers: a journal's entries only rise. What is written by two journals cannot be compared."""
    entry, wanted = aof.get("marker_entry"), snapshot.get("marker_entry")
    if not isinstance(wanted, int) or ("marker_owner" in aof and _journal_id(aof) != _journal_id(snapshot)):
        return
    if not isinstance(entry, int) or entry < wanted:
        raise ManifestError(
            f"the AOF lacks its end: {trader}'s last entry in it is {entry or 'none'}, and {wanted} in the "
            "snapshot that was taken before it"
        )


def _journal_id(held: dict[str, Any]) -> str:
    return str(held.get("marker_owner", "")).partition(":")[0]


def parse(text: str) -> Manifest:
    """Return a manifest as read from its file. Raises ``ManifestError`` if it is none of ours."""
    try:
        manifest: Manifest = json.loads(text)
        known = manifest["format"]
        for part in PARTS:
            _ = manifest[part]["keys"]
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"manifest.json is damaged: {error!r}") from error
    if known != FORMAT:
        raise ManifestError(f"manifest.json is of format {known}, and this version reads {FORMAT}: use that version")
    return manifest


def differences(manifest: Manifest, facts: dict[str, Any]) -> list[str]:
    """Return what a trial load found otherwise than the manifest says, one line each."""
    return [
        f"{part}: {name} is {found!r}, and the manifest says {wanted!r}"
        for part in PARTS
        for name in _CONTENTS
        if (wanted := manifest[part].get(name)) != (found := facts.get(part, {}).get(name))
    ]


def row(name: str, manifest: Manifest, now: float) -> str:
    """Return a backup as one line for people; ``now`` is Unix time."""
    age = now - datetime.fromisoformat(manifest["created"]).timestamp()
    size = sum(manifest["files"].values())
    traders = "; ".join(described(manifest, "aof")) or "no trader"
    return f"{name}  {_age(age):>6}  {size / 1e6:8.1f} MB  {manifest['node'].get('service', '?')}  {traders}"


def described(manifest: Manifest, part: str) -> Iterator[str]:
    """Yield what a part holds of each trader, for people."""
    for trader, held in sorted(manifest[part].get("traders", {}).items()):
        yield (
            f"{trader}: {held.get('positions', 0)} positions, {held.get('orders', 0)} orders, "
            f"entry {held.get('marker_entry', '-')}"
        )


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class Journal:
    """What of a trader's journal there is on its volume."""

    journal_id: str
    #: Number of the first entry that is kept.
    first_entry: int
    #: Whether its link has ever written to a data set.
    contacted: bool = True


def outlook(trader: str, held: dict[str, Any], journal: Journal | None) -> tuple[str, str]:
    """Return what the trader's link will do with restored data, as a word and as a line for people.

    The words: ``new`` (begins a journal on the data as they are), ``replays`` (sends what came after the backup),
    ``gap`` and ``foreign`` (stops with that cause). See docs/backup.md.
    """
    entry, owner = held.get("marker_entry"), _journal_id(held)
    if journal is None or not journal.contacted:
        return "new", f"{trader}: no journal is left: it starts with the data as of the backup"
    if entry is None:
        return "foreign", f"{trader}: the backup holds no marker of its link, which will stop"
    if owner != journal.journal_id:
        return "foreign", (
            f"{trader}: the journal on its volume is not the one that wrote the backup's data: the link will stop "
            "(foreign)"
        )
    if journal.first_entry > entry + 1:
        missing = journal.first_entry - 1 - entry
        return "gap", (
            f"{trader}: the backup ends at entry {entry}, and the journal begins at {journal.first_entry}: "
            f"{missing} entries between them are lost, and the link will stop (gap)"
        )
    return "replays", f"{trader}: the journal reaches back to the backup: its link sends again what came after it"


def read_journals(lines: Iterable[str]) -> dict[str, Journal]:
    """Return the journals by trader, from lines "<trader> TAB <link.json> TAB <first segment>"."""
    journals = {}
    for line in lines:
        trader, state, segment = line.rstrip("\n").split("\t")
        try:
            told = json.loads(state)
            journal_id, contacted = told["journal_id"], told["contacted"]
        except (ValueError, KeyError, TypeError):
            raise ManifestError(f"the journal of {trader} is damaged: its link.json cannot be read") from None
        journals[trader] = Journal(journal_id, int(segment.partition(".")[0] or 1), contacted)
    return journals


def _compose() -> None:
    print(json.dumps(compose(nested(sys.stdin)), indent=2))


def _compare() -> None:
    text, _, facts = sys.stdin.read().partition("\n---\n")
    found = differences(parse(text), nested(facts.splitlines()))
    if found:
        raise ManifestError("\n".join(found))


def _list() -> None:
    for line in sys.stdin:
        name, _, text = line.partition("\t")
        try:
            print(row(name, parse(text), time.time()))
        except ManifestError as error:
            print(f"{name}  {error}")


def _contents() -> None:
    manifest = parse(sys.stdin.read())
    for line in described(manifest, _part()):
        print(line)


def _expected() -> None:
    """Print what every node has to hold after a restore: keys, and each trader's marker."""
    held = parse(sys.stdin.read())[_part()]
    print(f"keys\t{held['keys']}")
    for trader, counts in sorted(held.get("traders", {}).items()):
        if "marker_entry" in counts:
            print(f"trader-{trader}.link\t{counts['marker_entry']}")


def _outlook() -> None:
    text, _, lines = sys.stdin.read().partition("\n---\n")
    journals = read_journals(lines.splitlines())
    traders: dict[str, Any] = parse(text)[_part()].get("traders", {})
    for trader in sorted(traders.keys() | journals.keys()):
        print("\t".join(outlook(trader, traders.get(trader, {}), journals.get(trader))))


def _part() -> str:
    return sys.argv[2]


_COMMANDS = {
    "compose": _compose,
    "compare": _compare,
    "list": _list,
    "contents": _contents,
    "expected": _expected,
    "outlook": _outlook,
}


def main() -> int:
    """Run a command; return 1 if a backup is not what it has to be."""
    try:
        _COMMANDS[sys.argv[1]]()
    except ManifestError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
