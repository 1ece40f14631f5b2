"""Whose fault an error is."""

from __future__ import annotations

import pytest

from trader_node.link.errors import Blame, blame, for_an_operator


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("READONLY You can't write against a read only replica.", Blame.ROLE),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Blame.ROLE),
        ("LOADING Redis is loading the dataset in memory", Blame.MOMENT),
        ("BUSY Redis is busy running a script.", Blame.MOMENT),
        ("NOREPLICAS Not enough good replicas to write.", Blame.MOMENT),
        ("MISCONF Redis is configured to save RDB snapshots", Blame.MOMENT),
        ("CLUSTERDOWN The cluster is down", Blame.MOMENT),
        ("EXECABORT Transaction discarded because of: READONLY You can't write", Blame.ROLE),
        ("EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas", Blame.MOMENT),
        ("EXECABORT Transaction discarded because of previous errors.", Blame.MOMENT),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", Blame.COMMAND),
        ("OOM command not allowed when used memory > 'maxmemory'.", Blame.COMMAND),
        ("NOPERM this user has no permissions", Blame.COMMAND),
        ("NOAUTH Authentication required.", Blame.COMMAND),
        # The code has to be the whole first word.
        ("BUSYGROUP Consumer Group name already exists", Blame.COMMAND),
        ("BUSYKEY Target key name already exists.", Blame.COMMAND),
        ("ERR value READONLY is not an integer", Blame.COMMAND),
        ("", Blame.COMMAND),
    ],
)
def test_blame(text: str, expected: Blame) -> None:
    assert blame(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", True),
        ("MISCONF Errors writing to the AOF file: No space left on device", True),
        ("NOPERM this user has no permissions", True),
        ("NOREPLICAS Not enough good replicas to write.", False),
        ("READONLY You can't write against a read only replica.", False),
    ],
)
def test_refusal_that_only_an_operator_can_end(text: str, *, expected: bool) -> None:
    assert for_an_operator(text) is expected
