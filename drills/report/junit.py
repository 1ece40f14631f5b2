"""The report as JUnit XML, which every CI shows."""

from __future__ import annotations

from pathlib import Path

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from drills.results import DrillReport, DrillResult


def write(report: DrillReport, to: Path) -> None:
    """Write one suite with a case for each run of a drill. Raises ``OSError`` if that fails."""
    suite = TestSuite("drills")
    suite.timestamp = report.started
    suite.add_property("seed", str(report.seed))
    for name, value in report.environment.model_dump().items():
        suite.add_property(name, str(value))
    suite.add_testcases(_case(drill) for drill in report.drills)
    # A run that was ended early took longer than its drills.
    suite.time = round(report.duration, 3)
    xml = JUnitXml("drills")
    xml.add_testsuite(suite)
    xml.write(str(to), pretty=True)


def _case(drill: DrillResult) -> TestCase:
    case = TestCase(printable(f"{drill.name}[{drill.repetition}]"), "drills", round(drill.duration, 3))
    if drill.status == "skipped":
        case.result = [Skipped(printable(drill.reason))]
    elif drill.status == "failed":
        failed = [check for check in drill.checks if not check.passed]
        failure = Failure(printable(drill.reason or "; ".join(check.name for check in failed)), "DrillFailed")
        failure.text = printable("\n".join(f"{check.name}: {check.detail}" for check in failed))
        case.result = [failure]
    return case


def printable(text: str) -> str:
    """Return a text without the control characters that no XML may hold, not even escaped."""
    return "".join(char if char in "\t\n\r" or (char >= " " and char not in "\ufffe\uffff") else "�" for char in text)
