"""What the user allows beyond the guarantee: scripts, and commands that are carried out at most once."""

from __future__ import annotations

from dataclasses import dataclass, field

from .scripts import SCRIPT_COMMANDS, ScriptMode, ScriptStore
from .tables import FLUSHES, REASONS, WRITES

_SCRIPTS_THAT_WRITE = frozenset([b"EVAL", b"EVALSHA", b"FCALL"])


class AllowanceError(ValueError):
    """A setting cannot be used; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """The user's choices, and the scripts that the link knows."""

    scripts: ScriptMode = ScriptMode.REFUSE
    #: Names in upper case.
    at_most_once: frozenset[bytes] = frozenset()
    store: ScriptStore = field(default_factory=ScriptStore)


def parse_at_most_once(text: str) -> frozenset[bytes]:
    """Read the setting LINK_AT_MOST_ONCE: names of commands with commas between them.

    Raises
    ------
    AllowanceError
        If a name cannot be carried out at most once, or would be without the setting.

    """
    names = frozenset(name.strip().upper().encode() for name in text.split(",") if name.strip())
    for name in sorted(names):
        shown = f"LINK_AT_MOST_ONCE={text!r}: {name.decode()}"
        if name in FLUSHES:
            raise AllowanceError(f"{shown} would delete the link's marker outside of its sequence: take it out")
        if name in WRITES or name in _SCRIPTS_THAT_WRITE:
            continue
        if name in REASONS or name in SCRIPT_COMMANDS:
            raise AllowanceError(f"{shown} is not available through the link in any form: take it out")
        raise AllowanceError(
            f"{shown} is not a command that writes: name commands such as EVAL, EVALSHA, FCALL or XREADGROUP"
        )
    return names
