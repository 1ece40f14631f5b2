"""The link's health in a small file, for a container's health check: a shell script that cannot ask over HTTP."""

from __future__ import annotations

import time
from pathlib import Path


def write_health(path: Path, *, healthy: bool, state: str, reason: str) -> None:
    """Write ``name=value`` lines in one step: a reader sees the old file or the new one. Raises ``OSError``."""
    lines = {"time": int(time.time()), "healthy": int(healthy), "state": state, "reason": " ".join(reason.split())}
    temporary = path.with_name(path.name + ".new")
    temporary.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    temporary.replace(path)
