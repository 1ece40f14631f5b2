"""What the strategy of examples/own_strategy has stored survives a killed master and a partition."""


def test_killed_master(ha_stack, positions, ledger, kill_master):
    with kill_master() as outage:
        assert outage.new != outage.old
        assert outage.seconds < 15
    # Compared one by one with each of the three Redis nodes, the old master included.
    counts = positions.check(new_orders=3)
    assert counts.positions > 0
    assert ledger.check().ok > 100


def test_partitioned_master(ha_stack, positions, ledger, partition):
    with partition():
        ha_stack.wait_for_writes()
    positions.check()
    ledger.check()
