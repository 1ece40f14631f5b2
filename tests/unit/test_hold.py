"""How long writes were held."""

from __future__ import annotations

from trader_node.link.hold import Hold


def test_the_start_is_a_hold_until_there_is_a_master() -> None:
    hold = Hold(10.0)
    assert hold.note(False, 11.0) is None
    assert hold.seconds(12.0) == 2.0
    assert hold.note(True, 13.0) == 3.0
    assert (hold.count, hold.since, hold.seconds(20.0)) == (1, None, 3.0)


def test_holds_add_up() -> None:
    hold = Hold(10.0)
    hold.note(True, 11.0)
    assert hold.note(True, 12.0) is None
    assert hold.note(False, 20.0) is None
    assert hold.note(False, 21.0) is None
    assert (hold.count, hold.seconds(22.0)) == (2, 3.0)
    assert hold.note(True, 24.0) == 4.0
    assert hold.seconds(30.0) == 5.0
