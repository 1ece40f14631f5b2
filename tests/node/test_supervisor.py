"""The supervisor with child processes that are small scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.node.conftest import REPOSITORY, wait_until

# Stands for a child: notes its signals, and behaves as told.
CHILD = """
    import os, signal, sys, time
    name, behaviour, folder = sys.argv[1:]
    note = lambda text: open(f"{folder}/events", "a").write(f"{name} {text}\\n")
    def on_term(number, frame):
        note("SIGTERM")
        if behaviour != "hang":
            sys.exit(0)
    signal.signal(signal.SIGTERM, on_term)
    note(f"started")
    open(f"{folder}/{name}.pid", "w").write(str(os.getpid()))
    if behaviour.startswith("exit"):
        time.sleep(0.3)
        sys.exit(int(behaviour[4:]))
    while True:
        time.sleep(0.05)
"""
SUPERVISOR = """
    import asyncio, subprocess, sys
    from trader_node.supervision import Child, Supervision, Timing
    from trader_node.supervisor import Supervisor
    link, node, folder = sys.argv[1:]
    def launch(name, behaviour):
        command = [sys.executable, folder + "/child.py", name, behaviour, folder]
        return lambda: subprocess.Popen(command, start_new_session=True)
    timing = Timing(node_stop=1.0, link_stop=1.0, link_backoff=(0.0, 0.1))
    launchers = {Child.LINK: launch("link", link), Child.NODE: launch("node", node)}
    sys.exit(asyncio.run(Supervisor(launchers, Supervision(timing)).run()))
"""


class Supervised:
    def __init__(self, folder: Path, link: str, node: str) -> None:
        self.folder = folder
        (folder / "child.py").write_text(textwrap.dedent(CHILD))
        (folder / "supervisor.py").write_text(textwrap.dedent(SUPERVISOR))
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "supervisor.py"), link, node, str(folder)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def events(self) -> list[str]:
        path = self.folder / "events"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, *events: str) -> None:
        wait_until(lambda: set(events) <= set(self.events()), f"events {events}", 10)

    def pid(self, child: str) -> int:
        path = self.folder / f"{child}.pid"
        return int(wait_until(lambda: path.exists() and path.read_text(), f"pid of the {child}", 10))

    def finish(self) -> tuple[int, str]:
        _, stderr = self.process.communicate(timeout=15)
        for child in ("link", "node"):
            with pytest.raises(ProcessLookupError):
                os.kill(self.pid(child), 0)
        return self.process.returncode, stderr


def test_a_stop_reaches_the_node_and_then_the_link(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "run", "run")
    supervised.wait_for("link started", "node started")
    supervised.process.send_signal(signal.SIGTERM)
    code, stderr = supervised.finish()
    assert code == 0
    assert [event for event in supervised.events() if "SIGTERM" in event] == ["node SIGTERM", "link SIGTERM"]
    assert "SIGTERM: stopping the node" in stderr


def test_ctrl_c_is_a_stop_too(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "run", "run")
    supervised.wait_for("link started", "node started")
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.finish()[0] == 0


def test_hanging_children_are_killed_within_their_bounds(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "hang", "hang")
    supervised.wait_for("link started", "node started")
    started = time.monotonic()
    supervised.process.send_signal(signal.SIGTERM)
    code, stderr = supervised.finish()
    assert 2.0 <= time.monotonic() - started < 6.0
    assert code == 137
    assert "the node has not stopped within 1 s" in stderr
    assert "the link has not stopped within 1 s" in stderr


def test_the_nodes_exit_code_is_the_supervisors(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "run", "exit3")
    code, stderr = supervised.finish()
    assert code == 3
    assert "the node has ended: exit code 3" in stderr
    assert "link SIGTERM" in supervised.events()


def test_a_killed_link_comes_back(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "run", "run")
    supervised.wait_for("node started")
    first = supervised.pid("link")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: supervised.pid("link") != first, "new link", 10)
    supervised.process.send_signal(signal.SIGTERM)
    code, stderr = supervised.finish()
    assert code == 0
    assert "THE LINK HAS DIED: killed by SIGKILL" in stderr
    assert supervised.events().count("node started") == 1


def test_a_misconfigured_link_ends_everything(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "exit2", "run")
    assert supervised.finish()[0] == 2
    assert "node SIGTERM" in supervised.events()


def test_children_do_not_outlive_a_killed_supervisor() -> None:
    script = (
        "import time\n"
        "from trader_node.processes import start_module\n"
        "print(start_module('http.server', ['0', '--bind', '127.0.0.1']).pid, flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()

    def gone() -> bool:
        # An orphan that has ended may stay as a zombie where nobody reaps it.
        try:
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_until(gone, "end of the child", 10)
