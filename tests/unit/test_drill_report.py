"""The report of the drills: its schema, JSON there and back, JUnit XML, pictures."""

from __future__ import annotations

from pathlib import Path

from junitparser import JUnitXml

from drills.report import write
from drills.results import DrillReport, schema

from .drill_reports import example, odd, report

_ROOT = Path(__file__).parents[2]


def test_committed_schema_is_that_of_the_classes() -> None:
    committed = (_ROOT / "docs/drills.schema.json").read_text()
    assert committed == schema(), "python -m drills.results >docs/drills.schema.json"


def test_json_there_and_back(tmp_path: Path) -> None:
    write(example(), tmp_path)
    assert DrillReport.model_validate_json((tmp_path / "drills.json").read_bytes()) == example()


def test_junit_has_a_case_for_each_drill(tmp_path: Path) -> None:
    write(report(*example().drills, *odd()), tmp_path)
    (suite,) = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    cases = {case.name: case for case in suite}
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (9, 2, 1, 0)
    assert suite.timestamp == example().started
    assert {item.name: item.value for item in suite.properties()}["seed"] == str(example().seed)
    assert cases["kill-master[1]"].time == 32.0
    assert cases["kill-master[1]"].is_passed
    assert "no time namespaces" in cases["clock-jump[1]"].result[0].message
    failure = cases["power-loss[1]"].result[0]
    assert failure.message == "41 acknowledged appends are in no data set"
    assert [line.partition(":")[0] for line in failure.text.splitlines()] == ["lost", "duplicated", "trader"]
    assert '<8816>, "acknowledged" & applied' in failure.text
    assert cases["no-samples[1]"].result[0].message == "no operation was in flight"
    assert "<script>alert('&')</script>[1]" in cases
