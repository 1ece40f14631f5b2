"""The pytest plugin as users have it: installed from the checkout, found by its entry point, a stack of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from junitparser import JUnitXml

from drills.stack import Stack, containers_of
from tests.stacks import ROOT

PROJECT = f"{Stack(ROOT).project}-plugin"
SABOTAGE = '''
"""Somebody takes something away behind the strategy's back: both have to fail."""


def test_deleted_order(ha_stack, positions):
    client = ha_stack.client(ha_stack.master())
    assert client.delete(next(client.scan_iter(f"trader-{ha_stack.trader_id}:orders:*")))
    positions.check()


def test_append_taken_back(ha_stack, ledger, freeze_master):
    with freeze_master() as outage:
        ha_stack.wait_for_writes_on(outage.new)
    client = ha_stack.client(ha_stack.master())
    assert client.lpop(next(client.scan_iter("trader-DRILL-*:*"))) is not None
    ledger.check()
'''


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an environment into which the checkout was installed; other packages are those of this one."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    interpreter = folder / "bin" / "python"
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (purelib / "of-the-tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, *offline, "-e", str(ROOT)], check=True, stdin=subprocess.DEVNULL)
    return interpreter


@pytest.mark.timeout(900)
def test_the_example_passes_and_a_sabotaged_one_fails(python: Path, tmp_path: Path) -> None:
    (tmp_path / "test_sabotage.py").write_text(SABOTAGE)
    example = ROOT / "examples" / "ci"
    done = subprocess.run(
        [
            *(str(python), "-m", "pytest", "-p", "no:cacheprovider", "-c", str(example / "pytest.ini")),
            *(str(example), str(tmp_path / "test_sabotage.py"), "--ha-project", PROJECT),
            *("--junitxml", str(tmp_path / "junit.xml")),
        ],
        # Not this directory, from which the plugin could be imported without having been installed.
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 1
    assert "plugins:" in done.stdout
    assert "nautilus-redis-ha-" in done.stdout.split("plugins:")[1].splitlines()[0]
    failures = {
        case.name: "".join(result.message for result in case.result)
        for suite in JUnitXml.fromfile(str(tmp_path / "junit.xml"))
        for case in suite
    }
    assert failures.keys() == {
        *("test_killed_master", "test_partitioned_master", "test_deleted_order", "test_append_taken_back")
    }
    assert failures["test_killed_master"] == failures["test_partitioned_master"] == ""
    assert "known to the node and gone" in failures["test_deleted_order"]
    assert "lost 1, duplicated 0, reordered 0, phantom 0" in failures["test_append_taken_back"]
    assert not containers_of(PROJECT), "the stack was not removed"
