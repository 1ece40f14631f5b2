"""Lua scripts and functions: refused, trusted to be deterministic, or carried out at most once.

A trusted script is an entry like any write. ``EVALSHA`` becomes ``EVAL`` with its text, because a master that does not
know the script would answer NOSCRIPT in the middle of a replay, and an acknowledged write would be lost. So the link
keeps the texts that pass through it; of any other it says NOSCRIPT itself, upon which clients send the text.
"""

from __future__ import annotations

import enum
import hashlib
from collections import OrderedDict

from . import wire
from .verdicts import Arguments, Kind, Verdict, refused

#: Bound of the texts kept, in bytes; the ones that were not used for longest are forgotten.
_MOST_BYTES = 16 << 20

_REFUSED = (
    "a script's effect may differ when it is replayed; use MULTI and EXEC, or set LINK_SCRIPTS=deterministic if your "
    "scripts depend on nothing but their arguments and the data, or LINK_SCRIPTS=at-most-once"
)
_NODE = "it concerns what one node is running, and nodes change roles; send it to the node itself"
NOSCRIPT = "NOSCRIPT No matching script. Please use EVAL."


class ScriptMode(enum.StrEnum):
    """What scripts that may write are to the link."""

    REFUSE = "refuse"
    #: The user vouches that they depend on nothing but their arguments and the data.
    DETERMINISTIC = "deterministic"
    AT_MOST_ONCE = "at-most-once"


class ScriptStore:
    """Texts of scripts by their SHA1 digest, as Redis names them."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._texts: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    def add(self, text: bytes) -> bytes:
        """Keep a text; return its digest in hexadecimal digits."""
        digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        if digest not in self._texts:
            self._bytes += len(text)
        self._texts[digest] = text
        self._texts.move_to_end(digest)
        while self._bytes > self._most_bytes and len(self._texts) > 1:
            _, forgotten = self._texts.popitem(last=False)
            self._bytes -= len(forgotten)
        return digest

    def text(self, digest: bytes) -> bytes | None:
        """Return the text with a digest, or None."""
        digest = digest.lower()
        if digest in self._texts:
            self._texts.move_to_end(digest)
        return self._texts.get(digest)

    def clear(self) -> None:
        """Forget all texts."""
        self._texts.clear()
        self._bytes = 0


_WRITE_NAMES = frozenset([b"EVAL", b"EVALSHA", b"FCALL"])
_FUNCTION_WRITES = frozenset([b"LOAD", b"DELETE", b"FLUSH", b"RESTORE"])
_FUNCTION_READS = frozenset([b"LIST", b"DUMP", b"STATS", b"HELP"])
#: Commands that this module decides on.
SCRIPT_COMMANDS = frozenset([*_WRITE_NAMES, b"EVAL_RO", b"EVALSHA_RO", b"FCALL_RO", b"FUNCTION", b"SCRIPT"])


def classify_script(arguments: Arguments, mode: ScriptMode, store: ScriptStore) -> Verdict:
    """Decide on a command of ``SCRIPT_COMMANDS``."""
    name = arguments[0].upper()
    action = arguments[1].upper() if len(arguments) > 1 else b""
    if name == b"SCRIPT":
        return _classify_administration(action, arguments)
    if name == b"FUNCTION":
        if action in _FUNCTION_READS:
            return Verdict(Kind.READ, arguments)
        if action not in _FUNCTION_WRITES:
            return refused(name, _NODE)
    if name.startswith(b"EVAL") and len(arguments) > 1:
        if name.startswith(b"EVALSHA"):
            text = store.text(arguments[1])
            if text is not None:
                arguments = (name.replace(b"SHA", b""), text, *arguments[2:])
            elif name == b"EVALSHA" and mode is not ScriptMode.REFUSE:
                return Verdict(Kind.REFUSED, reason=NOSCRIPT)
        elif name == b"EVAL_RO" or mode is not ScriptMode.REFUSE:
            store.add(arguments[1])
    if name.endswith(b"_RO"):
        return Verdict(Kind.READ, arguments)
    match mode:
        case ScriptMode.REFUSE:
            return refused(name, _REFUSED)
        case ScriptMode.DETERMINISTIC:
            return Verdict(Kind.WRITE, arguments)
        case ScriptMode.AT_MOST_ONCE:
            return Verdict(Kind.ONCE, arguments)


def _classify_administration(action: bytes, arguments: Arguments) -> Verdict:
    if action in (b"EXISTS", b"FLUSH"):
        return Verdict(Kind.LOCAL, arguments)
    if action == b"LOAD" and len(arguments) == 3:
        # Redis compiles it, and says what is wrong with it; the text is kept when its answer has come.
        return Verdict(Kind.READ, arguments)
    if action == b"LOAD":
        return Verdict(Kind.REFUSED, reason="ERR wrong number of arguments for 'script|load' command")
    return refused(b"SCRIPT", _NODE)


def answer_script(arguments: Arguments, store: ScriptStore) -> bytes:
    """Answer SCRIPT EXISTS and SCRIPT FLUSH from what the link knows."""
    if arguments[1].upper() == b"FLUSH":
        store.clear()
        return wire.OK
    if len(arguments) < 3:
        return wire.encode_error("ERR wrong number of arguments for 'script|exists' command")
    return wire.join_array([wire.encode_integer(store.text(digest) is not None) for digest in arguments[2:]])
