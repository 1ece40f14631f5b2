"""Compares two records of a trader one by one: ``python -m trader_node.compare node.json redis.json``.

Pure Python without dependencies, so that it also runs where NautilusTrader is not installed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECTIONS = ("positions", "orders", "accounts", "strategies", "index")


def differences(left: dict[str, Any], right: dict[str, Any], sections: tuple[str, ...] = SECTIONS) -> list[str]:
    """Return every difference as one line, such as ``positions/P-1/realized_pnl: '1 USD' != '2 USD'``.

    Parameters
    ----------
    left, right
        Records as ``trader_node.report`` and ``trader_node.inspect --json`` print them.
    sections
        Which parts to compare; what else the records hold (counters, pids) differs by nature.

    """
    return [line for section in sections for line in _compare(left.get(section), right.get(section), section)]


def missing(before: dict[str, Any], after: dict[str, Any], section: str) -> list[str]:
    """Return the ids that a section of ``before`` holds and that of ``after`` does not."""
    return sorted(set(before.get(section) or {}) - set(after.get(section) or {}))


def _compare(left: Any, right: Any, path: str) -> Iterator[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            if key not in right:
                yield f"{path}/{key}: only on the left"
            elif key not in left:
                yield f"{path}/{key}: only on the right"
            else:
                yield from _compare(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            yield f"{path}: {len(left)} entries != {len(right)} entries"
        for index, (a, b) in enumerate(zip(left, right, strict=False)):
            yield from _compare(a, b, f"{path}[{index}]")
    elif left != right:
        yield f"{path}: {left!r} != {right!r}"


def main(arguments: list[str]) -> int:
    """Compare two files; return 0 if equal, 1 if not, 2 if they cannot be read."""
    if len(arguments) != 2:
        print("usage: python -m trader_node.compare LEFT.json RIGHT.json", file=sys.stderr)
        return 2
    try:
        left, right = (json.loads(Path(name).read_text()) for name in arguments)
    except (OSError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    found = differences(left, right)
    for line in found:
        print(line)
    counts = ", ".join(f"{len(left.get(section) or {})} {section}" for section in SECTIONS[:-1])
    print(f"compared {counts}: {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
