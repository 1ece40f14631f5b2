"""Who is taken for the master."""

from __future__ import annotations

import pytest

from trader_node.link.discovery import FORGET_AFTER, Discovery, SentinelView
from trader_node.link.url import Address

A, B, C = ("10.0.0.1", 6379), ("10.0.0.2", 6379), ("10.0.0.3", 6379)
S1, S2, S3 = ("10.0.1.1", 26379), ("10.0.1.2", 26379), ("10.0.1.3", 26379)


def view(master: Address, epoch: int = 1, *, down: bool = False) -> SentinelView:
    return SentinelView(master, epoch, at=0.0, down=down)


@pytest.fixture
def discovery() -> Discovery:
    """Three Sentinels that name A, and know B and C as its replicas."""
    result = Discovery()
    for sentinel in (S1, S2, S3):
        result.sentinel_said(sentinel, view(A))
        result.nodes_named(sentinel, {B, C})
    return result


def test_nobody_is_known_at_first() -> None:
    assert Discovery().named() is None
    assert Discovery().candidates(0.0) == []
    assert Discovery().to_probe() == set()


def test_named_master_is_taken(discovery: Discovery) -> None:
    assert discovery.named() == A
    assert discovery.candidates(0.0) == [A]


def test_highest_epoch_counts_even_if_one_sentinel_has_it(discovery: Discovery) -> None:
    discovery.sentinel_said(S2, view(B, epoch=2))
    assert discovery.named() == B


def test_most_sentinels_count_among_equal_epochs(discovery: Discovery) -> None:
    discovery.sentinel_said(S1, view(B))
    assert discovery.named() == A
    discovery.sentinel_said(S2, view(B))
    assert discovery.named() == B


def test_sentinel_that_goes_back_in_time_is_ignored(discovery: Discovery) -> None:
    discovery.sentinel_said(S1, view(B, epoch=5))
    discovery.sentinel_said(S1, view(A, epoch=4))
    assert discovery.named() == B


def test_sentinel_that_is_gone_does_not_count(discovery: Discovery) -> None:
    discovery.sentinel_said(S1, view(B, epoch=5))
    discovery.sentinel_lost(S1)
    assert discovery.named() == A
    for sentinel in (S2, S3, S3):
        discovery.sentinel_lost(sentinel)
    assert discovery.named() is None
    # A Sentinel that comes back with fewer epochs than it had is believed: its state was lost.
    discovery.sentinel_said(S1, view(C, epoch=0))
    assert discovery.named() == C


def removed(discovery: Discovery, begin: float, end: float) -> set[Address]:
    """Look once a second, as the link does."""
    found: set[Address] = set()
    now = begin
    while now <= end:
        found |= discovery.forget_removed(3, now)
        now += 1.0
    return found


@pytest.fixture
def unlisted(discovery: Discovery) -> Discovery:
    """All three Sentinels answer, and none lists C."""
    for sentinel in (S1, S2, S3):
        discovery.sentinel_said(sentinel, view(A))
        discovery.nodes_named(sentinel, {B})
    return discovery


def test_node_that_one_sentinel_still_lists_is_not_forgotten(unlisted: Discovery) -> None:
    unlisted.nodes_named(S3, {B, C})
    assert not removed(unlisted, 0.0, 200.0)
    assert unlisted.nodes == {A, B, C}


def test_node_that_no_sentinel_lists_for_long_is_forgotten(unlisted: Discovery) -> None:
    unlisted.node_said(C, master=True, now=0.0)
    # The first look only begins: what was before it is not known.
    assert not removed(unlisted, 99.0, 99.0 + FORGET_AFTER)
    assert removed(unlisted, 100.0 + FORGET_AFTER, 100.0 + FORGET_AFTER) == {C}
    assert unlisted.nodes == {A, B}
    assert not unlisted.masters_seen
    assert not removed(unlisted, 161.0, 300.0)


def test_sentinels_that_were_reset_list_a_node_again_in_time(unlisted: Discovery) -> None:
    assert not removed(unlisted, 100.0, 104.0)
    unlisted.nodes_named(S2, {B, C})
    assert not removed(unlisted, 105.0, 105.0)
    unlisted.nodes_named(S2, {B})
    assert not removed(unlisted, 106.0, 104.0 + FORGET_AFTER)
    assert unlisted.nodes == {A, B, C}


def test_nothing_is_forgotten_while_a_sentinel_does_not_answer(unlisted: Discovery) -> None:
    assert not removed(unlisted, 100.0, 130.0)
    unlisted.sentinel_lost(S1)
    assert not removed(unlisted, 131.0, 300.0)
    # It is listened to for as long as all the others.
    unlisted.sentinel_said(S1, view(A))
    unlisted.nodes_named(S1, {B})
    assert not removed(unlisted, 301.0, 300.0 + FORGET_AFTER)
    assert removed(unlisted, 301.0 + FORGET_AFTER, 301.0 + FORGET_AFTER) == {C}


def test_nothing_is_forgotten_while_the_master_is_down(unlisted: Discovery) -> None:
    unlisted.sentinel_said(S1, view(A, down=True))
    assert not removed(unlisted, 100.0, 300.0)
    assert unlisted.nodes == {A, B, C}


def test_time_in_which_nobody_looked_does_not_count(unlisted: Discovery) -> None:
    assert not removed(unlisted, 100.0, 101.0)
    assert not removed(unlisted, 1000.0, 999.0 + FORGET_AFTER)


def test_master_is_not_forgotten_though_it_is_nobodys_replica(discovery: Discovery) -> None:
    for sentinel in (S1, S2, S3):
        discovery.sentinel_said(sentinel, view(A))
        discovery.nodes_named(sentinel, {B, C})
    assert not removed(discovery, 0.0, 200.0)
    assert discovery.nodes == {A, B, C}


def test_others_are_probed_only_during_an_outage(discovery: Discovery) -> None:
    assert discovery.to_probe() == set()
    discovery.connection_failed(A, 10.0)
    assert discovery.to_probe() == {B, C}
    discovery.connection_works()
    assert discovery.to_probe() == set()


def test_promoted_replica_is_taken_before_the_sentinels_name_it(discovery: Discovery) -> None:
    discovery.connection_failed(A, 10.0)
    assert discovery.candidates(10.0) == [A]
    discovery.node_said(B, master=True, now=10.5)
    assert discovery.candidates(10.5) == [B, A]


def test_the_node_that_said_it_last_is_first(discovery: Discovery) -> None:
    discovery.connection_failed(A, 10.0)
    discovery.node_said(B, master=True, now=10.5)
    discovery.node_said(C, master=True, now=10.6)
    assert discovery.candidates(11.0) == [C, B, A]
    discovery.node_said(C, master=False, now=10.7)
    assert discovery.candidates(11.0) == [B, A]


def test_newly_named_master_is_first(discovery: Discovery) -> None:
    discovery.connection_failed(A, 10.0)
    discovery.node_said(B, master=True, now=10.5)
    discovery.sentinel_said(S1, view(C, epoch=2))
    assert discovery.candidates(11.0) == [C, B]


def test_word_from_before_the_outage_does_not_count(discovery: Discovery) -> None:
    discovery.node_said(B, master=True, now=9.0)
    discovery.connection_failed(A, 10.0)
    assert discovery.candidates(10.0) == [A]


def test_word_of_a_node_does_not_count_without_an_outage(discovery: Discovery) -> None:
    discovery.node_said(B, master=True, now=9.0)
    assert discovery.candidates(10.0) == [A]


def test_node_that_fails_has_to_say_it_again(discovery: Discovery) -> None:
    discovery.connection_failed(A, 10.0)
    discovery.node_said(B, master=True, now=10.5)
    discovery.connection_failed(B, 11.0)
    assert discovery.outage_since == 10.0
    assert discovery.candidates(11.0) == [A]
    discovery.connection_failed(A, 11.1)
    discovery.node_said(B, master=True, now=11.2)
    assert discovery.candidates(11.2) == [B, A]


def test_outage_is_over_when_a_connection_works(discovery: Discovery) -> None:
    discovery.connection_failed(A, 10.0)
    discovery.node_said(B, master=True, now=10.5)
    discovery.connection_works()
    assert (discovery.outage_since, discovery.failed) == (None, None)
    assert discovery.candidates(11.0) == [A]


def test_promoted_replica_is_taken_without_any_sentinel(discovery: Discovery) -> None:
    discovery.connection_failed(A, 10.0)
    for sentinel in (S1, S2, S3):
        discovery.sentinel_lost(sentinel)
    assert discovery.to_probe() >= {B, C}
    discovery.node_said(B, master=True, now=10.5)
    assert discovery.candidates(10.5)[0] == B


# --- while the master is slow to answer ------------------------------------------------------------------------------


def test_silent_master_is_left_for_a_promoted_replica_if_a_sentinel_sees_it_as_down(discovery: Discovery) -> None:
    discovery.connection_failed(A, 10.0)
    assert discovery.better_than(A, 10.1) is None
    discovery.sentinel_said(S1, SentinelView(A, 1, at=10.2, down=True))
    assert discovery.better_than(A, 10.2) is None
    discovery.node_said(B, master=True, now=10.3)
    assert discovery.better_than(A, 10.3) == B


def test_silent_master_is_left_for_the_one_that_the_sentinels_name(discovery: Discovery) -> None:
    discovery.connection_failed(A, 10.0)
    discovery.sentinel_said(S1, view(B, epoch=2))
    assert discovery.better_than(A, 10.1) == B
    assert discovery.better_than(B, 10.1) is None


def test_slow_master_is_not_left_for_an_old_one_that_calls_itself_master(discovery: Discovery) -> None:
    discovery.connection_failed(A, 10.0)
    discovery.node_said(B, master=True, now=10.3)
    assert discovery.better_than(A, 10.3) is None


def test_without_a_sentinel_to_ask_the_promoted_replica_is_believed(discovery: Discovery) -> None:
    discovery.connection_failed(A, 10.0)
    for sentinel in (S1, S2, S3):
        discovery.sentinel_lost(sentinel)
    discovery.node_said(B, master=True, now=10.3)
    assert discovery.better_than(A, 10.3) == B
