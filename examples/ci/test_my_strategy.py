"""What the strategy of examples/own_strategy has stored survives a killed master and a partition."""


def test_killed_master(ha_stack, positions, ledger, kill_master):
    """Another node is promoted; the old master comes back as a replica."""
    with kill_master() as outage:
        assert outage.new != outage.old
        assert outage.seconds < 15
    # Compared one by one with each of the three Redis nodes, the old master included.
    assert positions.check(new_orders=3).positions > 0
    assert ledger.check().ok > 100


def test_partitioned_master(ha_stack, positions, ledger, partition):
    """The old master lives on, alone, while the strategy trades with another one."""
    with partition() as outage:
        ha_stack.wait_for_writes_on(outage.new)
    positions.check()
    ledger.check()
