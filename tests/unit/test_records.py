"""The comparison of the node's record with Redis finds every kind of difference, and counts it as what it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from drills.records import _same, compare_later, compare_records

NOW = 10_000 * 10**9


def record(age_secs: float = 0.0) -> dict[str, Any]:
    events = [{"event_id": f"e{number}", "ts_init": int(NOW - age_secs * 1e9)} for number in range(3)]
    return {
        "positions": {"P-1": {"side": "LONG", "events": copy.deepcopy(events)}},
        "orders": {"O-1": {"status": "FILLED", "events": copy.deepcopy(events)}},
        "accounts": {"A-1": {"events": []}},
        "strategies": {},
        "index": {},
    }


def counts(own: dict[str, Any], held: dict[str, Any], known: dict[str, Any], keep: float = 0.0) -> dict[str, int]:
    found = compare_records(own, held, known, keep, NOW).counts
    return {name: getattr(found, name) for name in ("lost", "wrong", "phantom", "duplicated") if getattr(found, name)}


def test_equal_records_are_exact() -> None:
    found = compare_records(record(), record(), record(), 0.0, NOW)
    assert found.exact
    assert (found.counts.positions, found.counts.orders, found.counts.fills, found.counts.accounts) == (1, 1, 3, 1)


@pytest.mark.parametrize("section", ["positions", "orders"])
def test_what_only_the_node_knows_is_lost(section: str) -> None:
    held = record()
    held[section].clear()
    assert counts(record(), held, record())["lost"] >= 1


def test_what_only_redis_holds_is_a_phantom() -> None:
    held = record()
    held["orders"]["O-2"] = held["orders"]["O-1"]
    assert counts(record(), held, record()) == {"phantom": 1}


def test_another_value_is_wrong() -> None:
    held = record()
    held["positions"]["P-1"]["side"] = "SHORT"
    assert counts(record(), held, record()) == {"wrong": 1}


def test_an_event_twice_is_duplicated() -> None:
    held = record()
    held["orders"]["O-1"]["events"].append(held["orders"]["O-1"]["events"][0])
    assert counts(record(), held, record())["duplicated"] == 1
    # Also where the node itself has read it back like that.
    assert counts(held, held, record()) == {"duplicated": 1}


def test_what_a_restarted_node_has_not_read_back_is_lost() -> None:
    """Node and Redis agree, and both have lost the same."""
    gone = record()
    gone["positions"].clear()
    assert counts(gone, gone, record()) == {"lost": 1}
    shorter = record()
    shorter["orders"]["O-1"]["events"].pop()
    assert counts(shorter, shorter, record()) == {"lost": 1}


@pytest.mark.parametrize(("age", "keep", "lost"), [(600, 5, {}), (240, 5, {"lost": 2}), (600, 0, {"lost": 2})])
def test_what_is_old_may_be_forgotten_where_the_node_forgets(age: float, keep: float, lost: dict[str, int]) -> None:
    gone = record()
    gone["positions"].clear()
    gone["orders"].clear()
    assert counts(gone, gone, record(age), keep) == lost


def test_a_node_that_trades_on_may_be_behind_redis_but_not_ahead() -> None:
    later = record()
    later["orders"]["O-2"] = later["orders"]["O-1"]
    later["orders"]["O-1"]["events"].append({"event_id": "e9", "ts_init": NOW})
    assert compare_later(record(), later, record(), 0.0, NOW).exact
    assert not compare_later(later, record(), record(), 0.0, NOW).exact


def linked(order: str, position: str) -> dict[str, Any]:
    return record() | {"index": {"order_position": {order: position}}}


@pytest.mark.parametrize("own_side", [True, False])
@pytest.mark.parametrize(("keep", "exact"), [(5, True), (0, False)])
def test_a_link_to_a_purged_position_is_no_difference_where_the_node_purges(
    keep: float, exact: bool, own_side: bool
) -> None:
    unlinked = record() | {"index": {"order_position": {}}}
    pair = (linked("O-1", "P-0"), unlinked) if own_side else (unlinked, linked("O-1", "P-0"))
    assert compare_records(*pair, record(), keep, NOW).exact is exact
    present = (linked("O-1", "P-1"), unlinked) if own_side else (unlinked, linked("O-1", "P-1"))
    assert not compare_records(*present, record(), keep, NOW).exact


@pytest.mark.parametrize("keep", [5, 0])
def test_a_link_to_an_order_that_died_with_the_node_is_no_difference(keep: float) -> None:
    unlinked = record() | {"index": {"order_position": {}}}
    assert compare_records(unlinked, linked("O-9", "P-1"), record(), keep, NOW).exact
    # Once the node has known the order it may not be gone.
    known = record()
    known["orders"]["O-9"] = known["orders"]["O-1"]
    assert not compare_records(unlinked, linked("O-9", "P-1"), known, keep, NOW).exact


def netted(*events: tuple[str, float]) -> dict[str, Any]:
    """A record with one position that keeps its id when it opens again; each event with its age in seconds."""
    found = record()
    identity = {"position_id": "BTC.X-S-1", "instrument_id": "BTC.X", "strategy_id": "S-1", "side": "LONG"}
    found["positions"] = {
        "BTC.X-S-1": identity
        | {"events": [{"event_id": name, "ts_init": int(NOW - age * 1e9)} for name, age in events]}
    }
    return found


def test_a_netted_position_that_opened_again_has_lost_nothing() -> None:
    now = netted(("f3", 1.0), ("f4", 0.5))
    assert compare_records(now, now, netted(("f1", 9.0), ("f2", 8.0)), 0.0, NOW).exact


@pytest.mark.parametrize(
    "there",
    [
        (("f2", 8.0),),
        (("f2", 8.0), ("f3", 1.0)),
        (),
        (("f0", 10.0),),
    ],
)
def test_a_netted_position_without_the_fills_that_were_known_has_lost_them(
    there: tuple[tuple[str, float], ...],
) -> None:
    # The node itself has read it back like that.
    now = netted(*there)
    assert counts(now, now, netted(("f1", 9.0), ("f2", 8.0))) == {"lost": 1}


def test_redis_has_a_netted_position_that_opened_again_among_the_closed_ones_too() -> None:
    own, held = netted(("f3", 1.0)), netted(("f3", 1.0))
    own["index"] = {"positions_open": ["BTC.X-S-1"], "positions_closed": []}
    held["index"] = {"positions_open": ["BTC.X-S-1"], "positions_closed": ["BTC.X-S-1"]}
    assert compare_records(own, held, own, 0.0, NOW).exact
    held["index"]["positions_closed"].append("P-9")
    assert not compare_records(own, held, own, 0.0, NOW).exact


@pytest.mark.parametrize(
    ("age", "keep", "wrong"),
    [
        pytest.param(130, 2, {}, id="older than the node keeps them"),
        pytest.param(110, 2, {"wrong": 4}, id="younger"),
        pytest.param(130, 0, {"wrong": 4}, id="a node that forgets nothing"),
    ],
)
def test_account_states_that_the_node_has_forgotten_may_be_in_front(
    age: float, keep: float, wrong: dict[str, int]
) -> None:
    own, held = record(), record()
    states = [{"event_id": f"s{number}", "ts_init": int(NOW - age * 1e9)} for number in range(4)]
    own["accounts"]["A-1"]["events"] = states[1:]
    held["accounts"]["A-1"]["events"] = states
    assert counts(own, held, record(), keep) == wrong


def test_account_states_at_the_end_are_never_forgotten() -> None:
    own, held = record(), record()
    old = [{"event_id": f"s{number}", "ts_init": int(NOW - 500e9)} for number in range(4)]
    own["accounts"]["A-1"]["events"] = old[:3]
    held["accounts"]["A-1"]["events"] = old
    assert counts(own, held, record(), 2)


def entries(*numbers: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return [(f"1700-{number}".encode(), {b"payload": str(number).encode()}) for number in numbers]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(entries(1, 2, 3), entries(1, 2, 3, 4), True, id="more came in before the second look"),
        pytest.param(entries(9, 10), entries(9, 10, 11), True, id="numbers, not text"),
        pytest.param(entries(1, 2, 3), entries(2, 3), True, id="the older ones were trimmed off"),
        pytest.param(entries(1, 2, 3), entries(1, 3), False, id="one is missing in between"),
        pytest.param(entries(1, 2), [(b"1700-1", {b"payload": b"x"}), *entries(2)], False, id="another content"),
        pytest.param(entries(1, 2), entries(3, 4), False, id="nothing in common"),
        pytest.param(entries(1), None, False, id="no stream at all"),
        pytest.param([b"a", b"b"], [b"a"], False, id="lists have to be equal"),
    ],
)
def test_streams_are_the_same_where_both_nodes_were_looked_at(one: Any, other: Any, same: bool) -> None:
    assert _same(one, other) is same


STARTED = NOW - 100 * 10**9
DIED = STARTED - 6 * 10**9


def indexed(closed: list[str], *, started: int = STARTED, last: int = DIED) -> dict[str, Any]:
    """Return a record in which O-1 was closed as the last thing that a killed process did, O-0 long before it."""
    found = record()
    found["orders"] = {
        "O-0": {"status": "FILLED", "events": [{"event_id": "a", "ts_init": DIED - 60 * 10**9}]},
        "O-1": {"status": "FILLED", "events": [{"event_id": "b", "ts_init": last}]},
        "O-2": {"status": "FILLED", "events": [{"event_id": "c", "ts_init": STARTED + 10**9}]},
    }
    found["positions"] = {
        f"P-{number}": {"side": "LONG", "events": [{"event_id": f"p{number}", "ts_init": DIED - number * 10**9}]}
        for number in range(1, 61)
    }
    return {**found, "started_ns": started, "index": {"orders_closed": sorted(closed), "orders": ["O-0", "O-1", "O-2"]}}


def test_a_place_in_the_index_that_died_with_the_node_is_no_difference() -> None:
    own, held = indexed(["O-0", "O-1", "O-2"]), indexed(["O-0", "O-2"])
    earlier = indexed(["O-0"], started=DIED - 300 * 10**9)
    del earlier["orders"]["O-1"], earlier["orders"]["O-2"]
    assert counts(own, held, earlier) == {}
    # The record of before is one of the process that has just started, and made its index itself.
    assert counts(own, held, own) == {}
    # Or Redis has it still among the open ones.
    assert counts({**own, "index": {"orders_open": []}}, {**held, "index": {"orders_open": ["O-1"]}}, earlier) == {}


@pytest.mark.parametrize("lost", ["O-0", "O-2"])
def test_another_place_in_the_index_is_missing(lost: str) -> None:
    """In the midst of what its process did, or of the process that runs."""
    everything = ["O-0", "O-1", "O-2"]
    own, held = indexed(everything), indexed([order for order in everything if order != lost])
    assert counts(own, held, indexed([], started=0))["wrong"] >= 1


def test_a_place_in_the_index_that_was_known_to_the_process_that_died_is_missing() -> None:
    own, held = indexed(["O-0", "O-1", "O-2"]), indexed(["O-0", "O-2"])
    known = indexed(["O-0", "O-1"], started=DIED - 300 * 10**9)
    assert counts(own, held, known)["wrong"] >= 1


def test_a_place_in_the_index_of_what_redis_does_not_hold_is_no_excuse() -> None:
    own, held = indexed(["O-0", "O-1", "O-2"]), indexed(["O-0", "O-2"])
    del held["orders"]["O-1"]
    assert counts(own, held, indexed([], started=0))["lost"] >= 1
