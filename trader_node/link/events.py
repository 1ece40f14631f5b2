"""One log line per event that matters: a name, fields that a program can read, and a sentence for people.

The fields hold numbers, addresses, reasons and names of settings: never a payload, never a password.
"""

from __future__ import annotations

import enum
import json
import logging
import time
from typing import Any

#: Characters that need no quotes around a value of logfmt are all but these and control characters.
_QUOTED = frozenset(' "=\\')


class LogFormat(enum.Enum):
    """How a line looks."""

    LOGFMT = "logfmt"
    JSON = "json"
    #: For people only: without the fields.
    TEXT = "text"


def event(name: str, **fields: object) -> dict[str, Any]:
    """Return the ``extra`` of a log call that names its event."""
    return {"event": name, "fields": fields}


class EventFormatter(logging.Formatter):
    """Renders a record as one line."""

    def __init__(self, style: LogFormat) -> None:
        super().__init__()
        self._look = style

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is part of it."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}: {self.formatException(record.exc_info)}"
        values = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if self._look is LogFormat.TEXT:
            return _one_line(f"{values['time']} {values['logger']}: {record.levelname} {message}")
        named = getattr(record, "event", None)
        if named is not None:
            fields = getattr(record, "fields", {})
            values |= {"event": named}
            values |= {name: round(value, 3) if isinstance(value, float) else value for name, value in fields.items()}
        values["msg"] = message
        if self._look is LogFormat.JSON:
            return json.dumps(values, default=str)
        return " ".join(f"{name}={_logfmt(value)}" for name, value in values.items())


def _logfmt(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if text and not _QUOTED.intersection(text) and text.isprintable():
        return text
    return '"' + _one_line(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text.replace("\r", "\\r").replace("\n", "\\n"))
