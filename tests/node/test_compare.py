"""Comparing two records of a trader."""

from __future__ import annotations

import json
from pathlib import Path

from tests.node.conftest import run_module
from trader_node.compare import differences, missing

LEFT = {
    "positions": {"P-1": {"side": "LONG", "events": [{"last_qty": "1"}, {"last_qty": "2"}]}, "P-2": {"side": "FLAT"}},
    "orders": {},
    "pid": 1,
}


def test_equal_records_have_no_differences_whatever_the_process() -> None:
    assert differences(LEFT, LEFT | {"pid": 2}) == []


def test_each_difference_is_named() -> None:
    right = {
        "positions": {"P-1": {"side": "SHORT", "events": [{"last_qty": "1"}]}, "P-3": {}},
        "orders": {},
    }
    assert differences(LEFT, right) == [
        "positions/P-1/events: 2 entries != 1 entries",
        "positions/P-1/side: 'LONG' != 'SHORT'",
        "positions/P-2: only on the left",
        "positions/P-3: only on the right",
    ]


def test_missing_names_what_was_lost() -> None:
    assert missing(LEFT, {"positions": {"P-1": {}, "P-9": {}}}, "positions") == ["P-2"]


def test_the_command_compares_files(tmp_path: Path) -> None:
    left, right = tmp_path / "left.json", tmp_path / "right.json"
    left.write_text(json.dumps(LEFT))
    right.write_text(json.dumps(LEFT))
    equal = run_module("trader_node.compare", str(left), str(right))
    assert (equal.returncode, equal.stdout) == (
        0,
        "compared 2 positions, 0 orders, 0 accounts, 0 strategies: 0 differences\n",
    )
    right.write_text(json.dumps({"positions": {}}))
    different = run_module("trader_node.compare", str(left), str(right))
    assert different.returncode == 1
    assert "positions/P-1: only on the left" in different.stdout
    assert run_module("trader_node.compare", str(left), str(tmp_path / "none")).returncode == 2
