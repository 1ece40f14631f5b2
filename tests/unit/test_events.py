"""Log lines: one per event, for programs and people, with nothing in them that a line must not hold."""

from __future__ import annotations

import json
import logging
import shlex
from typing import Any

import pytest

from trader_node.link.errors import without_payload
from trader_node.link.events import EventFormatter, LogFormat, event


def line(style: LogFormat, message: str, **extra: Any) -> str:
    record = logging.makeLogRecord({"name": "link", "levelno": 30, "levelname": "WARNING", "msg": message, **extra})
    text = EventFormatter(style).format(record)
    assert "\n" not in text
    assert text.isprintable()
    return text


def logfmt(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in shlex.split(text))


def test_logfmt_line_can_be_taken_apart() -> None:
    text = line(
        LogFormat.LOGFMT,
        'it said "no"\nand = went',
        **event("lost_master", node="h:1", seconds=1.23456, held=3, ok=True),
    )
    found = logfmt(text)
    assert found["event"] == "lost_master"
    assert (found["node"], found["seconds"], found["held"], found["ok"]) == ("h:1", "1.235", "3", "true")
    assert found["level"] == "warning"
    assert found["msg"] == 'it said "no"\\nand = went'.replace("\\n", "\\n")
    assert found["time"].endswith("Z")


def test_json_line_can_be_taken_apart() -> None:
    found = json.loads(line(LogFormat.JSON, "two\nlines", **event("halted", cause="gap", path=object)))
    assert (found["event"], found["cause"], found["msg"]) == ("halted", "gap", "two\nlines")


def test_text_line_is_for_people() -> None:
    text = line(LogFormat.TEXT, "gone\n", **event("halted", cause="gap"))
    assert text.endswith("link: WARNING gone\\n")
    assert "cause" not in text


def test_line_without_an_event_is_a_line_too() -> None:
    assert logfmt(line(LogFormat.LOGFMT, ""))["msg"] == ""


@pytest.mark.parametrize("style", list(LogFormat))
def test_traceback_stays_on_the_line(style: LogFormat) -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        text = line(style, "broken", exc_info=(type(error), error, error.__traceback__))
    assert "ZeroDivisionError" in text


def test_error_of_redis_is_shown_without_what_the_client_sent() -> None:
    text = "ERR unknown command 'RPUSHH', with args beginning with: 'key' 'a secret' "
    assert without_payload(text) == "ERR unknown command 'RPUSHH'"
    assert without_payload("NOREPLICAS Not enough good replicas to write.").startswith("NOREPLICAS Not")
