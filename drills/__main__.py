"""``python -m drills``: see :mod:`drills.command`."""

from .command import run

run()
