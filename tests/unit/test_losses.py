"""A node whose connections are lost as soon as they are made is tried ever more slowly, up to once a second."""

from __future__ import annotations

from trader_node.link.losses import QuickLosses

A, B = ("10.0.0.1", 6379), ("10.0.0.2", 6379)


def test_the_first_quick_losses_cost_no_time() -> None:
    losses = QuickLosses()
    assert [losses.lost(A, 0.1) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert not losses.worrying


def test_many_in_a_row_back_off_up_to_a_second_and_are_worrying() -> None:
    losses = QuickLosses()
    assert [losses.lost(A, 0.01) for _ in range(10)][3:] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert losses.worrying
    assert losses.count == 10
    for _ in range(5000):
        assert losses.lost(A, 0.01) == 1.0


def test_a_connection_that_lasted_and_another_node_begin_anew() -> None:
    losses = QuickLosses()
    for _ in range(10):
        losses.lost(A, 0.01)
    assert losses.lost(A, 1.5) == 0.0
    assert not losses.worrying
    for _ in range(10):
        losses.lost(A, 0.01)
    assert losses.lost(B, 0.01) == 0.0
    assert not losses.worrying
