"""The supervisor's decisions, event by event."""

from __future__ import annotations

import signal
from signal import SIGKILL, SIGTERM

from trader_node.supervision import Action, Alarm, Child, Exit, Log, Signal, Start, Supervision, Timing

TIMING = Timing(node_stop=10.0, link_stop=7.0, link_steady=10.0, link_backoff=(0.0, 0.5, 1.0))


def _running() -> Supervision:
    supervision = Supervision(TIMING)
    supervision.begin()
    supervision.started(Child.LINK, 0.0)
    supervision.started(Child.NODE, 0.0)
    return supervision


def _acts(actions: list[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, Log)]


def _texts(actions: list[Action]) -> str:
    return " ".join(action.text for action in actions if isinstance(action, Log))


STOP_LINK: list[Action] = [Signal(Child.LINK, SIGTERM), Alarm(Child.LINK, 7.0)]
STOP_NODE: list[Action] = [Signal(Child.NODE, SIGTERM), Alarm(Child.NODE, 10.0)]


def test_both_start_at_once() -> None:
    assert Supervision().begin() == [Start(Child.LINK), Start(Child.NODE)]


def test_a_stop_ends_the_node_first_and_the_link_after_it() -> None:
    supervision = _running()
    assert _acts(supervision.stop(SIGTERM)) == STOP_NODE
    assert supervision.stop(signal.SIGINT) == []
    assert _acts(supervision.ended(Child.NODE, 0, 1.0)) == STOP_LINK
    assert supervision.alarm(Child.NODE) == []
    assert supervision.ended(Child.LINK, 0, 2.0) == [Exit(0)]


def test_a_node_that_hangs_is_killed_and_the_loss_is_told() -> None:
    supervision = _running()
    supervision.stop(SIGTERM)
    actions = supervision.alarm(Child.NODE)
    assert _acts(actions) == [Signal(Child.NODE, SIGKILL)]
    assert "lost" in _texts(actions)
    assert _acts(supervision.ended(Child.NODE, -SIGKILL, 11.0)) == STOP_LINK
    assert supervision.ended(Child.LINK, 0, 12.0) == [Exit(137)]


def test_a_link_that_hangs_is_killed() -> None:
    supervision = _running()
    supervision.stop(SIGTERM)
    supervision.ended(Child.NODE, 0, 1.0)
    actions = supervision.alarm(Child.LINK)
    assert _acts(actions) == [Signal(Child.LINK, SIGKILL)]
    assert "journal" in _texts(actions)
    assert _acts(supervision.ended(Child.LINK, -SIGKILL, 9.0)) == [Exit(0)]


def test_a_node_stopped_before_it_can_handle_signals_has_stopped_cleanly() -> None:
    supervision = _running()
    supervision.stop(SIGTERM)
    supervision.ended(Child.NODE, -SIGTERM, 1.0)
    assert supervision.ended(Child.LINK, 0, 2.0) == [Exit(0)]


def test_the_nodes_end_drains_the_link_and_gives_its_code() -> None:
    for returncode, code in ((0, 0), (2, 2), (1, 1), (-signal.SIGSEGV, 139), (-SIGTERM, 143)):
        supervision = _running()
        assert _acts(supervision.ended(Child.NODE, returncode, 5.0)) == STOP_LINK
        assert _acts(supervision.ended(Child.LINK, 0, 6.0)) == [Exit(code)]


def test_a_dead_link_is_started_again_at_once_then_slower() -> None:
    supervision = _running()
    delays = []
    for _ in range(4):
        actions = supervision.ended(Child.LINK, -SIGKILL, 1.0)
        assert "THE LINK HAS DIED: killed by SIGKILL" in _texts(actions)
        (start,) = _acts(actions)
        assert isinstance(start, Start)
        delays.append(start.delay)
        assert supervision.wants(Child.LINK)
        supervision.started(Child.LINK, 1.0)
    assert delays == [0.0, 0.5, 1.0, 1.0]
    # After a steady time it counts as the first death again.
    assert _acts(supervision.ended(Child.LINK, 1, 60.0)) == [Start(Child.LINK, 0.0)]


def test_a_link_with_wrong_settings_ends_everything() -> None:
    supervision = _running()
    assert _acts(supervision.ended(Child.LINK, 2, 0.5)) == STOP_NODE
    assert _acts(supervision.ended(Child.NODE, -SIGTERM, 0.6)) == [Exit(2)]


def test_the_same_code_after_a_crash_is_a_passing_trouble() -> None:
    supervision = _running()
    supervision.ended(Child.LINK, -SIGKILL, 1.0)
    supervision.started(Child.LINK, 1.0)
    assert _acts(supervision.ended(Child.LINK, 2, 1.5)) == [Start(Child.LINK, 0.5)]


def test_a_link_that_dies_while_the_node_stops_comes_back_for_its_last_writes() -> None:
    supervision = _running()
    supervision.stop(SIGTERM)
    assert _acts(supervision.ended(Child.LINK, -SIGKILL, 1.0)) == [Start(Child.LINK, 0.0)]


def test_no_link_is_started_for_a_node_that_has_ended() -> None:
    supervision = _running()
    supervision.ended(Child.LINK, -SIGKILL, 1.0)
    assert _acts(supervision.ended(Child.NODE, 1, 1.1)) == [Exit(1)]
    assert not supervision.wants(Child.LINK)


def test_a_stop_without_a_node_ends_the_link() -> None:
    supervision = Supervision(TIMING)
    supervision.begin()
    supervision.started(Child.LINK, 0.0)
    assert _acts(supervision.stop(SIGTERM)) == STOP_LINK
    assert supervision.ended(Child.LINK, 0, 1.0) == [Exit(0)]
