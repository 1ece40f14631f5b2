"""The manifest of a backup, and what it says of a journal that outlived the data."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from trader_node.backup_manifest import (
    Journal,
    ManifestError,
    compose,
    differences,
    main,
    nested,
    outlook,
    parse,
    read_journals,
    row,
)

FACTS = """\
node\tunix_time\t1764039353
node\tservice\tredis-3
files\tdump.rdb\t99022
aof\tkeys\t118
aof\ttraders\tTRADER-001\torders\t61
aof\ttraders\tTRADER-001\tpositions\t37
aof\ttraders\tTRADER-001\tmarker_owner\tcdf1912cdf05fca6:1:1:f05b570d
aof\ttraders\tTRADER-001\tmarker_entry\t65
rdb\tkeys\t117
rdb\ttraders\tTRADER-001\torders\t60
"""
HELD = {"marker_owner": "aa:1:1:ff", "marker_entry": 100}


def manifest() -> dict[str, Any]:
    return compose(nested(FACTS.splitlines(keepends=True)))


def test_facts_become_a_manifest_that_can_be_read_again() -> None:
    made = manifest()
    assert made["created"] == "2025-11-25T02:55:53+00:00"
    assert made["aof"]["traders"]["TRADER-001"]["positions"] == 37
    assert parse(json.dumps(made)) == made


@pytest.mark.parametrize("part", ["aof", "rdb"])
def test_a_part_that_was_not_loaded_makes_no_backup(part: str) -> None:
    facts = nested(line for line in FACTS.splitlines() if not line.startswith(f"{part}\tkeys"))
    with pytest.raises(ManifestError, match=part.upper()):
        compose(facts)


@pytest.mark.parametrize(
    ("aof", "snapshot", "entry"),
    [
        # Written by a later connection of the same journal; by another one, begun in between; before the first entry.
        ({"marker_owner": "aa:1:2:00", "marker_entry": 100}, HELD, 100),
        ({"marker_owner": "bb:1:1:00", "marker_entry": 1}, HELD, 1),
        (HELD, {"marker_owner": "aa:1:1:ff", "marker_entry": ""}, 100),
    ],
)
def test_an_aof_that_is_newer_than_the_snapshot_makes_a_backup(
    aof: dict[str, Any], snapshot: dict[str, Any], entry: int
) -> None:
    facts = nested(FACTS.splitlines())
    facts["aof"]["traders"], facts["rdb"]["traders"] = {"T": aof}, {"T": snapshot}
    assert compose(facts)["aof"]["traders"]["T"]["marker_entry"] == entry


@pytest.mark.parametrize("held", [{}, {"orders": 1}, HELD | {"marker_entry": 99}, HELD | {"marker_entry": ""}])
def test_an_aof_that_is_older_than_the_snapshot_makes_no_backup(held: dict[str, Any]) -> None:
    facts = nested(FACTS.splitlines())
    facts["aof"]["traders"], facts["rdb"]["traders"] = {"T": held}, {"T": HELD}
    with pytest.raises(ManifestError, match="the AOF lacks its end: T's last entry in it is"):
        compose(facts)


def test_the_same_contents_are_no_difference_however_long_they_took_to_load() -> None:
    facts = nested([*FACTS.splitlines(), "aof\tload_ms\t99"])
    assert differences(manifest(), facts) == []


@pytest.mark.parametrize(
    ("replaced", "by", "says"),
    [
        ("orders\t61", "orders\t60", "aof: traders"),
        ("rdb\tkeys\t117", "rdb\tkeys\t0", "rdb: keys is 0"),
        ("marker_entry\t65", "marker_entry\t66", "aof: traders"),
    ],
)
def test_other_contents_are_told(replaced: str, by: str, says: str) -> None:
    (found,) = differences(manifest(), nested(FACTS.replace(replaced, by).splitlines()))
    assert found.startswith(says)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "aof": {}, "rdb": {}}'])
def test_a_damaged_manifest_is_told(text: str) -> None:
    with pytest.raises(ManifestError, match="damaged"):
        parse(text)


def test_a_manifest_of_another_format_is_told() -> None:
    with pytest.raises(ManifestError, match="format 2"):
        parse(json.dumps(manifest() | {"format": 2}))


def test_a_backup_is_one_line_for_people() -> None:
    line = row("a-backup", manifest(), 1764039353 + 3 * 86400)
    assert " ".join(line.split()) == "a-backup 3 d 0.1 MB redis-3 TRADER-001: 37 positions, 61 orders, entry 65"


@pytest.mark.parametrize(
    ("held", "journal", "word", "says"),
    [
        (HELD, None, "new", "no journal"),
        (HELD, Journal("aa", 1), "replays", "reaches back"),
        # The first entry behind the backup is the first of the journal: nothing is between them.
        (HELD, Journal("aa", 101), "replays", "reaches back"),
        (HELD, Journal("aa", 102), "gap", ": 1 entries between"),
        (HELD, Journal("bb", 1), "foreign", "is not the one"),
        # It was begun, and its link never got to a master.
        (HELD, Journal("bb", 1, contacted=False), "new", "no journal"),
        ({}, Journal("aa", 1), "foreign", "no marker"),
        ({}, None, "new", "no journal"),
    ],
)
def test_what_a_link_will_do_with_restored_data(
    held: dict[str, Any], journal: Journal | None, word: str, says: str
) -> None:
    found, line = outlook("TRADER-001", held, journal)
    assert found == word
    assert line.startswith("TRADER-001: ")
    assert says in line


def test_journals_are_read_from_what_is_on_the_volumes() -> None:
    lines = [
        'TRADER-001\t{"journal_id": "aa", "contacted": true}\t00000000000000000101.journal\n',
        'TRADER-002\t{"journal_id": "bb", "contacted": false}\t\n',
    ]
    assert read_journals(lines) == {"TRADER-001": Journal("aa", 101), "TRADER-002": Journal("bb", 1, contacted=False)}
    with pytest.raises(ManifestError, match="TRADER-003"):
        read_journals(["TRADER-003\t{\t1.journal\n"])


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: str, *command: str) -> str:
    monkeypatch.setattr(sys, "argv", ["backup_manifest", *command])
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    status = main()
    said = capsys.readouterr()
    return said.out if status == 0 else f"status {status}: {said.err}"


def test_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(monkeypatch, capsys, FACTS, "compose")
    assert run(monkeypatch, capsys, f"{text}\n---\n{FACTS}", "compare") == ""
    other = run(monkeypatch, capsys, f"{text}\n---\n{FACTS.replace('118', '119')}", "compare")
    assert other == "status 1: aof: keys is 119, and the manifest says 118\n"
    assert "37 positions" in run(monkeypatch, capsys, f"name\t{json.dumps(json.loads(text))}\n", "list")
    assert "manifest.json is damaged" in run(monkeypatch, capsys, "name\t\n", "list")
    assert run(monkeypatch, capsys, text, "contents", "rdb") == "TRADER-001: 0 positions, 60 orders, entry -\n"
    assert run(monkeypatch, capsys, text, "expected", "aof") == "keys\t118\ntrader-TRADER-001.link\t65\n"
    journal = 'TRADER-001\t{"journal_id": "cdf1912cdf05fca6", "contacted": true}\t500.journal\n'
    assert run(monkeypatch, capsys, f"{text}\n---\n{journal}", "outlook", "aof").startswith("gap\tTRADER-001: ")
