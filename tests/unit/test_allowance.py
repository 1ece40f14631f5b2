"""What the user allows beyond the guarantee: the settings, and what they make of commands."""

from __future__ import annotations

import hashlib

import pytest

from trader_node.link.allowance import Allowance, AllowanceError, parse_at_most_once
from trader_node.link.commands import Kind, StreamIds, Verdict, classify, common_kind
from trader_node.link.scripts import ScriptMode, ScriptStore


def verdict(text: str, allowance: Allowance) -> Verdict:
    return classify(tuple(text.encode().split()), 0, StreamIds(), allowance)


def test_names_in_any_case_and_with_blanks() -> None:
    assert parse_at_most_once(" eval, XAutoClaim ,,EVALSHA") == {b"EVAL", b"XAUTOCLAIM", b"EVALSHA"}
    assert parse_at_most_once("") == frozenset()


@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("GET", "not a command that writes"),
        ("PUBLISH", "not a command that writes"),
        ("NONSENSE", "not a command that writes"),
        ("BLPOP", "not a command that writes"),
        ("EVAL_RO", "not available"),
        ("WATCH", "not available"),
        ("CONFIG", "not available"),
        ("SWAPDB", "not available"),
        ("FLUSHALL", "marker"),
        ("FLUSHDB", "marker"),
    ],
)
def test_pointless_names_are_mistakes(name: str, because: str) -> None:
    with pytest.raises(AllowanceError, match=f"^LINK_AT_MOST_ONCE='EVAL,{name}': {name} .*{because}"):
        parse_at_most_once(f"EVAL,{name}")


def test_what_is_allowed_at_most_once() -> None:
    allowance = Allowance(at_most_once=frozenset([b"INCR", b"EVAL", b"SORT", b"XREADGROUP"]))
    assert verdict("incr k", allowance).kind is Kind.ONCE
    assert verdict("EVAL x 0", allowance).kind is Kind.ONCE
    assert verdict("SORT k BY w_* ALPHA STORE d", allowance).kind is Kind.ONCE
    assert verdict("DECR k", allowance).kind is Kind.WRITE
    assert verdict("EVALSHA x 0", allowance).kind is Kind.REFUSED
    assert verdict("XREADGROUP GROUP g c STREAMS s >", allowance).kind is Kind.ONCE
    # It would hold up the connection that all clients read on.
    assert verdict("XREADGROUP GROUP g c BLOCK 0 STREAMS s >", allowance).kind is Kind.REFUSED
    assert common_kind([[b"INCR", b"k"]], allowance) is None
    assert common_kind([[b"incr", b"k"]], allowance) is None
    assert common_kind([[b"DECR", b"k"]], allowance) is Kind.WRITE


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (ScriptMode.REFUSE, Kind.REFUSED),
        (ScriptMode.DETERMINISTIC, Kind.WRITE),
        (ScriptMode.AT_MOST_ONCE, Kind.ONCE),
    ],
)
@pytest.mark.parametrize("command", ["EVAL x 0", "FCALL f 0", "FUNCTION LOAD x", "FUNCTION FLUSH"])
def test_scripts_that_may_write(mode: ScriptMode, kind: Kind, command: str) -> None:
    assert verdict(command, Allowance(mode)).kind is kind


@pytest.mark.parametrize("mode", ScriptMode)
@pytest.mark.parametrize("command", ["EVAL_RO x 0", "FCALL_RO f 0", "EVALSHA_RO x 0", "FUNCTION LIST", "SCRIPT LOAD x"])
def test_scripts_that_only_read(mode: ScriptMode, command: str) -> None:
    assert verdict(command, Allowance(mode)).kind is Kind.READ


@pytest.mark.parametrize("mode", [ScriptMode.DETERMINISTIC, ScriptMode.AT_MOST_ONCE])
def test_evalsha_is_sent_with_the_text_or_not_at_all(mode: ScriptMode) -> None:
    allowance = Allowance(mode)
    digest = hashlib.sha1(b"x").hexdigest()  # noqa: S324
    unknown = verdict(f"EVALSHA {digest} 1 k", allowance)
    assert unknown.kind is Kind.REFUSED
    assert unknown.reason == "NOSCRIPT No matching script. Please use EVAL."
    verdict("EVAL x 0", allowance)
    assert verdict(f"EVALSHA {digest} 1 k", allowance).arguments == (b"EVAL", b"x", b"1", b"k")
    assert verdict(f"evalsha_ro {digest.upper()} 1 k", allowance).arguments == (b"EVAL_RO", b"x", b"1", b"k")


def test_texts_are_bounded_and_those_in_use_stay() -> None:
    store = ScriptStore(most_bytes=30)
    first, second = store.add(b"1" * 10), store.add(b"2" * 10)
    store.add(b"3" * 10)
    assert store.text(first) is not None
    store.add(b"4" * 10)
    assert store.text(second) is None
    assert store.text(first) is not None
    big = store.add(b"5" * 100)
    assert store.text(big) is not None
    store.clear()
    assert store.text(big) is None
