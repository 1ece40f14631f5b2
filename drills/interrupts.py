"""Ctrl-C and SIGTERM: what was broken is healed first, and that is not to be interrupted."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def as_interrupt(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt


@contextmanager
def uninterrupted(says: Callable[[str], None]) -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the end of the block; somebody who presses it is told why."""
    pressed: list[int] = []

    def later(number: int, _frame: FrameType | None) -> None:
        pressed.append(number)
        says("healing what was broken: please wait")

    before = {number: signal.signal(number, later) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if pressed:
        raise KeyboardInterrupt
