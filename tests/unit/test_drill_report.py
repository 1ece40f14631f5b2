"""The report of the drills: its schema, JSON there and back, JUnit XML, pictures, what is drawn, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from junitparser import JUnitXml
from matplotlib.image import imread
from typer.testing import CliRunner

from drills.report import junit, series, table, write
from drills.report.__main__ import app
from drills.report.summary import headline
from drills.report.words import duration, moment, one_line
from drills.results import Bucket, DrillReport, DrillResult, schema

from .drill_reports import example, failed, odd, passed, report, skipped

_ROOT = Path(__file__).parents[2]


def _validator() -> Draft202012Validator:
    committed = json.loads((_ROOT / "docs/drills.schema.json").read_text())
    Draft202012Validator.check_schema(committed)
    return Draft202012Validator(committed)


def test_committed_schema_is_that_of_the_classes() -> None:
    committed = (_ROOT / "docs/drills.schema.json").read_text()
    assert committed == schema(), "python -m drills.results >docs/drills.schema.json"


def test_report_is_valid_by_the_schema_and_a_spoilt_one_is_not() -> None:
    valid = json.loads(report(*example().drills, *odd()).model_dump_json())
    assert list(_validator().iter_errors(valid)) == []
    for spoil in (
        lambda drill: drill.update(status="survived"),
        lambda drill: drill["appender"].update(lost="none"),
        lambda drill: drill.update(colour="green"),
        lambda drill: drill.pop("name"),
    ):
        spoilt: dict[str, Any] = json.loads(json.dumps(valid))
        spoil(spoilt["drills"][0])
        assert len(list(_validator().iter_errors(spoilt))) == 1


def test_json_there_and_back(tmp_path: Path) -> None:
    written = report(passed(), skipped())
    write(written, tmp_path)
    assert DrillReport.model_validate_json((tmp_path / "drills.json").read_bytes()) == written


def test_junit_has_a_case_for_each_drill(tmp_path: Path) -> None:
    junit.write(report(*example().drills, *odd()), tmp_path / "junit.xml")
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


def test_pictures_of_each_drill_and_of_all(tmp_path: Path) -> None:
    write(report(*example().drills, *odd()), tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "all-silent-1.png",
        "drills.png",
        "freeze-longer-than-failover-1.png",
        "kill-master-1.png",
        "no-samples-1.png",
        "one-bucket-1.png",
        "power-loss-1.png",
        "script-alert-script-1.png",
        "switchover-1.png",
    ]
    for path in tmp_path.glob("*.png"):
        rows, columns, _ = imread(path).shape
        assert rows > 400
        assert columns > 1200


def test_picture_of_one_drill_is_its_timeline(tmp_path: Path) -> None:
    write(report(passed()), tmp_path)
    assert (tmp_path / "drills.png").read_bytes() == (tmp_path / "kill-master-1.png").read_bytes()


def test_report_of_nothing_is_written(tmp_path: Path) -> None:
    write(report(), tmp_path)
    assert "No drill was run" in (tmp_path / "drills.html").read_text()
    written = ["drills.html", "drills.json", "drills.md", "drills.png", "junit.xml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == written


def test_same_run_gives_the_same_files(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(report(passed()), tmp_path / folder)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


# --- what is drawn ---------------------------------------------------------------------------------------------------


def _timeline(*tenths: int, longest_ms: float = 5.0) -> list[Bucket]:
    return [Bucket(at=tenth / 10, acknowledged=9, median_ms=1.0, longest_ms=longest_ms) for tenth in tenths]


def _drill(*tenths: int, longest_ms: float = 5.0) -> DrillResult:
    return DrillResult(name="d", summary="s", started="", timeline=_timeline(*tenths, longest_ms=longest_ms))


def test_stall_has_its_exact_length_where_it_was_measured() -> None:
    (stall,) = series.stalls(passed(stall=1.83))
    assert stall.label == "stall 1.83 s"
    assert stall.began == pytest.approx(5.0, abs=0.1)


def test_stall_is_three_empty_buckets_not_two() -> None:
    assert series.stalls(_drill(0, 1, 4, 5)) == []
    (stall,) = series.stalls(_drill(0, 1, 5, 6))
    assert stall.length == pytest.approx(0.4)
    # The operation that ended it had waited for 0.36 s.
    (stall,) = series.stalls(_drill(0, 1, 5, 6, longest_ms=360.0))
    assert stall.length == pytest.approx(0.36)


def test_bucket_without_acknowledgement_is_part_of_a_stall() -> None:
    drill = _drill(0, 1, 2, 3, 4, 5)
    for bucket in drill.timeline[2:5]:
        bucket.acknowledged = 0
    assert [stall.ended for stall in series.stalls(drill)] == [pytest.approx(0.55)]


def test_writes_that_never_came_back_are_told() -> None:
    drill = passed(stall=0.0)
    drill.timeline = [bucket for bucket in drill.timeline if bucket.at < 6.0]
    (stall,) = series.stalls(drill)
    assert not stall.over
    assert stall.ended == drill.phases[-1].ended


def test_lanes_join_what_touches() -> None:
    drill = passed(stall=1.0)
    drill.nodes = [span for span in drill.nodes if span.state == "master"]
    halves = [
        drill.nodes[0].model_copy(update={"ended": 2.0}),
        drill.nodes[0].model_copy(update={"began": 2.02}),
    ]
    drill.nodes = [*halves[::-1], drill.nodes[1]]
    assert {len(spans) for spans in series.lanes(drill).values()} == {1}


def test_longest_stall_has_the_measured_length_also_beside_what_an_operation_waited() -> None:
    # 0.8 s between the buckets; the operation that ended it waited for 0.71 s, the stall took 0.86 s.
    drill = _drill(0, 1, 9, 10, 15, longest_ms=710.0)
    drill.availability.longest_stall = 0.86
    assert [stall.length for stall in series.stalls(drill)] == [pytest.approx(0.86), pytest.approx(0.5)]


def test_lines_are_cut_where_a_stall_is() -> None:
    drill = _drill(0, 1, 4, 5, 9, 10, 14)
    assert [len(run) for run in series.runs(drill.timeline)] == [4, 2, 1]
    assert len(series.stalls(drill)) == 2


@pytest.mark.parametrize(
    ("drills", "expected"),
    [
        ([], "No drill was run"),
        ([skipped()], "No drill was run"),
        ([passed(), skipped()], "The drill passed"),
        ([passed(), passed("switchover")], "All 2 drills passed"),
        ([passed(), passed(repetition=2), failed()], "1 of 3 runs failed"),
        ([failed(), failed("disk-full")], "All 2 drills failed"),
    ],
)
def test_headline(drills: list[DrillResult], expected: str) -> None:
    assert headline(report(*drills)) == expected


def test_words_for_people() -> None:
    texts = [duration(value) for value in (0.0001, 0.05, 0.1, 10.0, 119.0, 3400.6, 7260.0)]
    assert texts == ["0.1 ms", "50 ms", "0.1 s", "10 s", "119 s", "56 min 40 s", "2 h 1 min"]
    assert moment("2026-11-24T23:05:41+01:00") == "24 November 2026, 22:05 UTC"
    assert moment("unknown") == "unknown"
    assert one_line("a\n  b\x1b[31mc", 20) == "a b [31mc"
    assert one_line("abcdef", 4) == "abc…"


# --- the command -----------------------------------------------------------------------------------------------------


def test_command_draws_again(tmp_path: Path) -> None:
    write(report(passed()), tmp_path / "a")
    done = CliRunner().invoke(app, [str(tmp_path / "a/drills.json"), "--output", str(tmp_path / "b")])
    assert done.exit_code == 0
    for name in ("drills.json", "drills.html", "drills.png", "junit.xml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("content", "expected"), [(None, "cannot be read"), ("{}", "seed: Field required"), ("no JSON", "Invalid JSON")]
)
def test_command_names_a_file_that_is_no_report(tmp_path: Path, content: str | None, expected: str) -> None:
    file = tmp_path / "drills.json"
    if content is not None:
        file.write_text(content)
    done = CliRunner().invoke(app, [str(file)])
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert expected in " ".join(done.output.replace("│", " ").split())


def test_command_says_that_a_folder_cannot_be_written_to(tmp_path: Path) -> None:
    write(report(), tmp_path)
    done = CliRunner().invoke(app, [str(tmp_path / "drills.json"), "--output", str(tmp_path / "drills.json")])
    assert done.exit_code == 2
    assert "cannot be written to" in " ".join(done.output.replace("│", " ").split())


def test_the_table_has_a_row_for_every_drill_with_the_worst_of_its_runs() -> None:
    slow = passed("kill-master", 2)
    slow.availability.longest_stall = 7.5
    lines = table.markdown(report(passed("kill-master"), slow, failed("power-loss"), skipped())).splitlines()
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:]}
    assert list(cells) == ["`clock-jump`", "`kill-master`", "`power-loss`"]
    assert cells["`kill-master`"][:2] == ["2 of 2", "7.50"]
    assert cells["`power-loss`"][0] == "0 of 1"
    assert int(cells["`power-loss`"][7]) > 0
    assert cells["`clock-jump`"][0].startswith("skipped: ")
    assert len({line.count("|") for line in lines}) == 1
