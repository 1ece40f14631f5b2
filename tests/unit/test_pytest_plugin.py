"""The pytest plugin: what a user's mistakes are answered with, that faults are healed, and that silence never passes.

Each test runs pytest inside pytest; the stack is a fake.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import textwrap
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from _pytest.pytester import RunResult

from drills import own_stack, proofs, pytest_plugin
from drills.faults import FAULTS, Fault
from drills.ledger import Verdict
from drills.own_stack import UserError, Wanted
from drills.records import Comparison
from drills.results import TraderCounts
from drills.stack import SERVICES
from drills.traffic import Accepted, Operation, Tick

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[2]


class FakeStack:
    """Two nodes, one of which is master; the other one after a fault."""

    services = SERVICES

    def __init__(self) -> None:
        self.now = "redis-1"
        self.healed = 0
        self.orders = 0

    def master(self) -> str:
        return self.now

    def heal(self, _seconds: float) -> None:
        self.healed += 1

    def report(self) -> dict[str, Any]:
        self.orders += 1
        return {"orders": {f"O-{number}": {} for number in range(self.orders)}}


class Switch(Fault):
    """Another master."""

    name = "switch"
    summary = "another master"
    healed: ClassVar[list[str]] = []

    def inject(self) -> None:
        self.stack.now = "redis-2"

    def confirm(self) -> str:
        return "redis-2 was promoted in place of redis-1"

    def heal(self) -> None:
        self.healed.append(self.name)


class Dud(Switch):
    name = "dud"

    def confirm(self) -> str:
        raise TimeoutError("not within 60 s: another master than redis-1")


class Elsewhere(Switch):
    name = "elsewhere"

    @classmethod
    def unavailable(cls, stack: Any) -> str:
        return "this kernel cannot do it"


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> FakeStack:
    """A fake that is well, with three faults of its own."""
    fake = FakeStack()
    for fault in (Switch, Dud, Elsewhere):
        monkeypatch.setitem(FAULTS, fault.name, fault)
    monkeypatch.setattr(Switch, "healed", [])
    monkeypatch.setattr(pytest_plugin, "expect_well", lambda _: None)
    monkeypatch.setattr(pytest_plugin, "ensure_engine", lambda: None)
    monkeypatch.setattr(pytest_plugin, "existing", lambda *_: contextlib.nullcontext(fake))
    return fake


@pytest.fixture(autouse=True)
def _no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this one once more, where it is installed, nor those of the outer run, which take long to import."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, test: str, *options: str) -> RunResult:
    pytester.makepyfile(textwrap.dedent(test))
    return pytester.runpytest_inprocess("-p", "drills.pytest_plugin", *options)


def on_fake(pytester: pytest.Pytester, test: str) -> RunResult:
    return run(pytester, test, "--ha-root", str(ROOT), "--ha-stack", "fake")


def said(result: RunResult) -> str:
    return "\n".join([*result.outlines, *result.errlines])


USES_THE_STACK = "def test_it(ha_stack): pass"


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        (("--ha-config", "nope.json"), "nope.json: no such file"),
        (("--ha-config", "there.json", "--ha-code", "nowhere"), "nowhere: no such directory"),
        (("--ha-code", "."), "without ha_config"),
        (("--ha-root", "."), "is no checkout of nautilus-redis-ha: it has no compose/base.yaml"),
        (("--ha-project", "My Stack"), "'My Stack': a project name has only"),
    ],
)
def test_a_wrong_setting_ends_the_run_before_any_test(
    pytester: pytest.Pytester, options: tuple[str, ...], needle: str
) -> None:
    pytester.makefile(".json", there="{}")
    result = run(pytester, USES_THE_STACK, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert needle in said(result)
    assert "Traceback" not in said(result)


def test_paths_of_the_settings_file_are_relative_to_it(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nha_config = sub/nope.json\n")
    result = run(pytester, USES_THE_STACK)
    assert f"{pytester.path / 'sub' / 'nope.json'}: no such file" in said(result)


def test_a_run_without_the_fixtures_needs_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_stack, "__file__", "/site-packages/drills/own_stack.py")
    monkeypatch.setenv("PATH", "")
    assert run(pytester, "def test_it(): pass").ret == 0


def test_an_installed_package_needs_the_checkout(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_stack, "__file__", "/site-packages/drills/own_stack.py")
    result = run(pytester, USES_THE_STACK)
    result.assert_outcomes(errors=1)
    assert "pip install -e CHECKOUT" in said(result)
    assert "Traceback" not in said(result)


@pytest.mark.parametrize(
    ("script", "needle"),
    [
        (None, "there is no docker command"),
        (
            "#!/bin/sh\necho 'Cannot connect to the Docker daemon at unix:///x' >&2\nexit 1\n",
            "no Docker engine answers",
        ),
    ],
)
def test_a_missing_engine_is_one_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, script: str | None, needle: str
) -> None:
    folder = pytester.mkdir("path")
    if script:
        (folder / "docker").write_text(script)
        (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    result = run(pytester, USES_THE_STACK, "--ha-root", str(ROOT))
    result.assert_outcomes(errors=1)
    assert needle in said(result)
    assert "Traceback" not in said(result)
    assert "own_stack.py" not in said(result)


def test_several_processes_are_refused(pytester: pytest.Pytester, stack: FakeStack) -> None:
    pytester.makeconftest("def pytest_configure(config): config.workerinput = {}")
    result = on_fake(pytester, USES_THE_STACK)
    result.assert_outcomes(errors=1)
    assert "leave out -n" in said(result)


def test_an_outage_tells_what_happened_and_is_healed_in_the_end(pytester: pytest.Pytester, stack: FakeStack) -> None:
    result = on_fake(
        pytester,
        """
        def test_it(fault):
            with fault("switch") as outage:
                assert (outage.old, outage.new) == ("redis-1", "redis-2")
                assert 0 <= outage.seconds < 5
                assert outage.effect.startswith("redis-2 was promoted")
        """,
    )
    result.assert_outcomes(passed=1)
    assert Switch.healed == ["switch"]
    assert stack.healed == 1


def test_a_failing_test_is_healed_too(pytester: pytest.Pytester, stack: FakeStack) -> None:
    result = on_fake(
        pytester,
        """
        def test_it(fault):
            fault("switch")
            fault("switch")
            assert False
        def test_whole(fault): pass
        """,
    )
    result.assert_outcomes(failed=1, passed=1)
    assert Switch.healed == ["switch", "switch"]
    assert stack.healed == 1


def test_a_fault_without_effect_fails_and_is_healed(pytester: pytest.Pytester, stack: FakeStack) -> None:
    result = on_fake(pytester, "def test_it(fault): fault('dud')")
    result.assert_outcomes(failed=1)
    assert "dud took no effect: not within 60 s: another master than redis-1" in said(result)
    assert "outages.py" not in said(result)
    assert Switch.healed == ["dud"]


def test_a_mistyped_fault_is_one_line_with_the_likely_one(pytester: pytest.Pytester, stack: FakeStack) -> None:
    result = on_fake(pytester, "def test_it(fault): fault('kil-master')")
    result.assert_outcomes(failed=1)
    assert "there is no fault 'kil-master', did you mean 'kill-master'?" in said(result)
    assert "outages.py" not in said(result)


def test_a_mistyped_service_is_one_line(pytester: pytest.Pytester, stack: FakeStack) -> None:
    result = on_fake(pytester, "def test_it(partition): partition('redis-4')")
    result.assert_outcomes(failed=1)
    assert "partition('redis-4'): there is no such service" in said(result)
    assert "redis-3" in said(result)


def test_what_cannot_be_done_here_is_skipped_by_name(pytester: pytest.Pytester, stack: FakeStack) -> None:
    result = on_fake(pytester, "def test_it(fault): fault('elsewhere')")
    result.assert_outcomes(skipped=1)


def test_a_stack_that_is_not_well_is_an_error(
    pytester: pytest.Pytester, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwell(_: object) -> None:
        raise UserError("the stack is not well before anything was broken: redis-2 does not run")

    monkeypatch.setattr(pytest_plugin, "expect_well", unwell)
    result = on_fake(pytester, "def test_it(fault): pass")
    result.assert_outcomes(errors=1)
    assert "redis-2 does not run" in said(result)


class FakeTraffic:
    """Appends that were all acknowledged; ``verdicts`` by node."""

    verdicts: ClassVar[dict[str, Verdict]] = {}
    operations: ClassVar[list[Operation]] = []

    def __init__(self, _stack: object) -> None:
        self.tick = Tick(acknowledged=1)
        self.closed = self.cleaned = False

    def start(self) -> None: ...

    def close(self) -> None: ...

    def clean(self) -> None: ...

    def stop(self) -> Accepted:
        return Accepted(self.operations, None, {})  # type: ignore[arg-type]

    def compare(self, _accepted: Accepted, node: str) -> Verdict:
        return self.verdicts.get(node, Verdict(ok=10))


LEDGER = """
def test_it(fault, ledger):
    with fault("switch"):
        pass
    assert ledger.check().ok == 10
"""


@pytest.fixture
def traffic(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> type[FakeTraffic]:
    """Something was under way all the time."""
    monkeypatch.setattr(proofs, "Traffic", FakeTraffic)
    monkeypatch.setattr(proofs, "wait_until_replicated", lambda _: None)
    monkeypatch.setattr(FakeTraffic, "verdicts", {})
    monkeypatch.setattr(FakeTraffic, "operations", [Operation(0.0, time.time() + 600, 10, 0, 0)])
    return FakeTraffic


def test_a_ledger_that_is_exact_passes(pytester: pytest.Pytester, traffic: type[FakeTraffic]) -> None:
    on_fake(pytester, LEDGER).assert_outcomes(passed=1)


@pytest.mark.parametrize("difference", ["lost", "duplicated", "reordered", "phantom"])
@pytest.mark.parametrize("node", ["redis-1", "redis-3"])
def test_a_ledger_fails_for_one_difference_on_one_node(
    pytester: pytest.Pytester, traffic: type[FakeTraffic], node: str, difference: str
) -> None:
    traffic.verdicts[node] = Verdict(ok=10, **{difference: [("list", 3)]})
    result = on_fake(pytester, LEDGER)
    result.assert_outcomes(failed=1)
    assert f"ledger: {node} does not hold what was acknowledged" in said(result)
    assert f"{difference} 1" in said(result)


def test_a_ledger_without_appends_fails(pytester: pytest.Pytester, traffic: type[FakeTraffic]) -> None:
    for node in ("redis-1", "redis-2", "redis-3"):
        traffic.verdicts[node] = Verdict()
    result = on_fake(pytester, LEDGER)
    result.assert_outcomes(failed=1)
    assert "nothing was compared" in said(result)


def test_a_fault_with_no_append_under_way_proves_nothing(
    pytester: pytest.Pytester, traffic: type[FakeTraffic], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTraffic, "operations", [Operation(0.0, 1.0, 10, 0, 0)])
    result = on_fake(pytester, LEDGER)
    result.assert_outcomes(failed=1)
    assert "no append was under way while switch took hold" in said(result)


POSITIONS = """
def test_it(fault, positions):
    with fault("switch"):
        pass
    assert positions.check(new_orders=3).positions == 2
"""


def test_positions_that_are_equal_pass(
    pytester: pytest.Pytester, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "compare_trader", lambda *_: Comparison(TraderCounts(positions=2)))
    on_fake(pytester, POSITIONS).assert_outcomes(passed=1)
    assert stack.healed == 1


def test_a_difference_of_positions_fails_and_is_shown(
    pytester: pytest.Pytester, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Comparison(TraderCounts(positions=2, lost=1), ["positions/P-1: only on the left"])
    monkeypatch.setattr(proofs, "compare_trader", lambda *_: found)
    result = on_fake(pytester, POSITIONS)
    result.assert_outcomes(failed=1)
    assert "positions/P-1: only on the left" in said(result)


def test_an_idle_strategy_proves_nothing(
    pytester: pytest.Pytester, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "_TRADED", 0.2)
    monkeypatch.setattr(proofs, "compare_trader", lambda *_: Comparison(TraderCounts(positions=2)))
    monkeypatch.setattr(stack, "report", lambda: {"orders": {"O-1": {}}})
    result = on_fake(pytester, POSITIONS)
    result.assert_outcomes(failed=1)
    assert "fewer than 3 orders" in said(result)


# --- starting and stopping


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose scripts only note how they were called."""
    (tmp_path / "scripts").mkdir()
    for name in ("up", "down"):
        script = tmp_path / "scripts" / name
        script.write_text(
            f'#!/bin/sh\necho "{name} $COMPOSE_PROJECT_NAME $* $SUBNET_PREFIX $REDIS_3_PORT" >> "{tmp_path}/calls"\n'
            f'echo "==> Step of {name}"\ncat "{tmp_path}/{name}.says" 2>/dev/null && exit 1\nexit 0\n'
        )
        script.chmod(0o755)
    monkeypatch.setattr(own_stack, "ensure_engine", lambda: None)
    monkeypatch.setattr(own_stack, "_networks", list)
    monkeypatch.setattr(own_stack.Stack, "discover", lambda *_: "the stack")
    return tmp_path


def calls(checkout: Path) -> list[str]:
    return (checkout / "calls").read_text().splitlines()


def test_a_stack_begins_with_nothing_and_leaves_nothing(checkout: Path, tmp_path: Path) -> None:
    node = tmp_path / "node.json"
    node.write_text("{}")
    steps: list[str] = []
    with own_stack.running(Wanted(checkout, "shop", node, tmp_path), steps.append) as stack:
        assert str(stack) == "the stack"
        assert len(calls(checkout)) == 2
    down, up, again = calls(checkout)
    assert down.startswith("down shop --volumes --yes")
    assert up.startswith(f"up shop --drill --config {node} --code {tmp_path} 172.28.120 165")
    assert again.startswith("down shop --volumes --yes")
    assert steps == ["Step of down", "Step of up", "Step of down"]


def test_a_stack_that_is_kept_stays(checkout: Path) -> None:
    steps: list[str] = []
    with own_stack.running(Wanted(checkout, "shop", keep=True), steps.append):
        pass
    assert len(calls(checkout)) == 2
    assert "COMPOSE_PROJECT_NAME=shop ./scripts/down --volumes" in steps[-1]


def test_a_stack_that_does_not_start_says_why_and_is_removed(checkout: Path) -> None:
    (checkout / "up.says").write_text(
        "error: REDIS_1_PORT=1: this port is taken\n       set it to a free one\nand more\n"
    )
    with (
        pytest.raises(UserError, match=r"^REDIS_1_PORT=1: this port is taken; set it to a free one$"),
        own_stack.running(Wanted(checkout, "shop"), lambda _: None),
    ):
        pass
    assert calls(checkout)[-1].startswith("down shop")


def test_two_runs_do_not_share_a_stack(checkout: Path) -> None:
    with (
        own_stack.running(Wanted(checkout, "shop"), lambda _: None),
        pytest.raises(UserError, match="another run"),
        own_stack.running(Wanted(checkout, "shop"), lambda _: None),
    ):
        pass


def test_ports_and_subnets_in_use_are_left_alone(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_stack, "_networks", lambda: [ipaddress.IPv4Network("172.28.120.0/22")])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 16500))
        taken.listen()
        found = own_stack._addresses()
    assert found["SUBNET_PREFIX"] == "172.28.124"
    assert int(found["REDIS_1_PORT"]) > 16500
    assert len(set(found.values())) == 7
