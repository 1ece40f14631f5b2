"""Every alert has a test in which it fires and one in which it does not, and a paragraph in the runbook.

What the rules compute is tested with promtool, in observability/prometheus/tests.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "observability/prometheus/rules/alerts.yml"
TESTS = sorted((ROOT / "observability/prometheus/tests").glob("*.yml"))
RUNBOOK = ROOT / "docs/runbook.md"

#: One alert as it is written down: its name and all lines up to the next one.
_ALERT = re.compile(r"^      - alert: (\w+)\n((?:(?!      - alert: |  - name: ).*\n)*)", re.M)
#: A check of promtool's on one line, and over several.
_SILENT = re.compile(r"alertname: (\w+), exp_alerts: \[\]")
_FIRING = re.compile(r"alertname: (\w+)\n\s+exp_alerts:\n\s+- ")

ALERTS: dict[str, str] = dict(_ALERT.findall(RULES.read_text()))
CHECKS = "".join(path.read_text() for path in TESTS)


def missing(alerts: dict[str, str], checks: str, runbook: str) -> list[str]:
    """Return what an alert lacks, one line each."""
    firing, silent = set(_FIRING.findall(checks)), set(_SILENT.findall(checks))
    paragraphs = {title: text.strip() for title, text in re.findall(r"^### (\w+)\n((?:(?!#).*\n?)*)", runbook, re.M)}
    lacks = []
    for name, text in alerts.items():
        for what, there in (
            ("a test in which it fires", name in firing),
            ("a test in which it does not", name in silent),
            ("a paragraph in the runbook", len(paragraphs.get(name, "").split()) >= 15),
            ("a severity", bool(re.search(r"severity: (critical|warning) ", text))),
            ("a summary", "summary: " in text),
            ("the address of its paragraph", f"runbook_url: docs/runbook.md#{name.lower()}\n" in text),
        ):
            if not there:
                lacks.append(f"{name}: {what}")
    lacks += [f"{name}: an alert of that name" for name in (firing | silent | set(paragraphs)) - set(alerts)]
    return sorted(lacks)


def test_the_rules_are_found() -> None:
    assert len(ALERTS) == RULES.read_text().count("- alert: ") >= 25


def test_every_alert_has_tests_and_a_paragraph_and_nothing_else_has() -> None:
    assert missing(ALERTS, CHECKS, RUNBOOK.read_text()) == []


@pytest.mark.parametrize(
    ("taken_out", "lack"),
    [
        (r"### LinkHolding\n\n.*\n", "LinkHolding: a paragraph in the runbook"),
        (r"alertname: LinkHolding\n", "LinkHolding: a test in which it fires"),
        (r"alertname: LinkHolding, exp_alerts: \[\]", "LinkHolding: a test in which it does not"),
        (r"runbook_url: docs/runbook.md#linkholding\n", "LinkHolding: the address of its paragraph"),
        (r"severity: critical \}\n(?=.*\n\s+summary: The link of .* holds)", "LinkHolding: a severity"),
    ],
)
def test_a_lack_is_noticed(taken_out: str, lack: str) -> None:
    rules, checks, runbook = (re.sub(taken_out, "", text) for text in (RULES.read_text(), CHECKS, RUNBOOK.read_text()))
    assert lack in missing(dict(_ALERT.findall(rules)), checks, runbook)


def test_a_test_of_an_alert_that_is_gone_is_noticed() -> None:
    alerts = {name: text for name, text in ALERTS.items() if name != "LinkHolding"}
    assert missing(alerts, CHECKS, RUNBOOK.read_text()) == ["LinkHolding: an alert of that name"]
