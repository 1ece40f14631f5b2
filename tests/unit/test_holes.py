"""Holes that were found once and are closed: each test failed before."""

from __future__ import annotations

import asyncio
import errno
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from trader_node.link import wire
from trader_node.link.app import Link
from trader_node.link.config import LinkConfig
from trader_node.link.decisions import Halt, Reconnect
from trader_node.link.discovery import Discovery, SentinelView
from trader_node.link.entries import ENTRY_OVERHEAD_BYTES, Write
from trader_node.link.journal_file import Fsync
from trader_node.link.state import LinkState
from trader_node.link.url import parse_redis_url

from .test_sequencer import Master, Story, _journal, words
from .world import World

A, B = ("10.0.0.1", 6379), ("10.0.0.2", 6379)
S1 = ("10.0.1.1", 26379)
NOPERM_SELECT = "NOPERM this user has no permissions to run the 'select' command"


def ready() -> Story:
    story = Story()
    story.connect()
    return story


# --- sequencer -------------------------------------------------------------------------------------------------------


def test_forbidden_select_is_the_clients_error_and_does_not_stop_everybody() -> None:
    story = ready()
    story.accept("RPUSH a 1", db=1)
    story.accept("RPUSH b 1")
    assert story.pump() == ["SELECT 1", "RPUSH a 1", "SELECT 0", "RPUSH b 1"] or story.group
    place = [index for index, command in enumerate(story.group[1:-3]) if command.startswith("SELECT")]
    story.aborted(dict.fromkeys(place, NOPERM_SELECT))
    for _ in range(10):
        story.now += 5
        if not story.pump():
            break
        selects = [index for index, command in enumerate(story.group[1:-3]) if command.startswith("SELECT")]
        story.aborted(dict.fromkeys(selects, NOPERM_SELECT)) if selects else story.applied()
    assert 2 in story.replies, "the other client waits for ever"


def test_database_that_does_not_exist_is_not_written_to_another_one() -> None:
    story = ready()
    story.accept("SET a 1", db=12)
    assert story.pump() == ["SELECT 12", "SET a 1", "SELECT 0"]
    # redis-server with "databases 4": queued, then -ERR in EXEC, and SET runs in database 0.
    story.master.seq = 1
    executed = wire.join_array([b"-ERR DB index is out of range\r\n", wire.OK, wire.OK, b":0\r\n"])
    decision = story.answer(wire.OK + wire.QUEUED * 4 + executed + wire.OK + story.master.marker())
    assert story.replies.get(1) != wire.OK, "the client was told OK, and the key is in database 0"
    assert isinstance(decision, Halt) or wire.is_error(story.replies[1])


def test_nothing_is_sent_after_the_decision_to_reconnect() -> None:
    story = ready()
    story.accept("RPUSH a 1")
    story.pump()
    # Somebody deletes the marker: the transaction is fenced, and its outcome is known.
    decision = story.answer(wire.OK + wire.QUEUED * 2 + wire.NIL_ARRAY)
    assert isinstance(decision, Reconnect)
    story.accept("RPUSH a 2")  # another client's chunk in the same turn of the event loop: Upstream._pump runs
    sent = story.link.next_group(story.now)
    story.lose()
    _, decision = story.identify(Master(keys=1))
    assert not isinstance(decision, Halt), f"halted without need: {decision}"
    assert sent == b""


def test_read_never_goes_back_behind_what_another_read_has_shown() -> None:
    story = ready()
    story.accept("RPUSH a 1")
    story.pump()
    # The master executes it; a read on the read connection shows it; then the master dies with EXEC's answer.
    story.lose()
    story.connect(Master("run2", "history2", owner="mine:1:1", seq=0))
    assert not story.link.caught_up, "reads go to a master that lacks an entry which a read may have shown"


def test_data_set_of_a_lost_tail_is_told_from_this_runs_entries() -> None:
    # Host crash: the journal lost entries 4 and 5 of run 1. Its first master of run 2 is a replica at 3.
    story = Story(_journal(3), LinkState("mine", 2, contacted=True))
    story.connect(Master("run2", "history2", owner="mine:1:1", seq=3, keys=1))
    for value in (40, 50, 60):
        story.accept(f"RPUSH a {value}")
    story.pump()
    story.applied()
    assert sorted(story.replies) == [4, 5, 6]
    story.lose()
    # The old master comes back as master, with run 1's own entries 4 and 5: "mine:1:1", 5.
    _, decision = story.identify(Master("run1", "history1", owner="mine:1:1", seq=5, keys=1))
    assert isinstance(decision, Halt), "acknowledged 4 and 5 of run 2 are skipped silently"


def test_state_is_whole_before_clients_are_told() -> None:
    story = ready()
    seq = story.accept("RPUSH a 1")

    def broken(reply: bytes) -> None:
        raise ZeroDivisionError

    story.link.journal.entry(seq).sink = broken
    story.pump()
    story.lose()
    story.accept("RPUSH a 2")
    with pytest.raises(ZeroDivisionError):
        story.connect(Master("run1", "history1", owner="mine:1:1", seq=1))
    assert "RPUSH a 1" not in words(story.link.next_group(story.now)), "sent twice"


def test_lost_answers_are_in_the_journal_as_applied() -> None:
    story = ready()
    story.accept("RPUSH a 1")
    story.pump()
    story.lose()
    story.connect(Master("run1", "history1", owner="mine:1:1", seq=1))
    assert story.replies
    assert ("applied", 1) in story.log.records


def test_keys_of_other_databases_count() -> None:
    story = ready()
    story.accept("RPUSH a 1", db=1)
    story.pump()
    story.applied()
    story.lose()
    # Database 0 (with the marker) was flushed on the replica that is promoted; database 1 holds "a".
    sent = story.link.connected(0.0)
    assert b"keyspace" in sent.lower(), "DBSIZE sees database 0 only: everything is replayed onto database 1"


# --- marker overwritten by a client ----------------------------------------------------------------------------------


def test_client_cannot_replace_the_marker() -> None:
    story = ready()
    story.accept("SET marker x")
    story.pump()
    executed = wire.join_array([wire.OK, b"-WRONGTYPE Operation against a key\r\n"])
    wrong = b"-WRONGTYPE Operation against a key\r\n"
    decision = story.answer(wire.OK + wire.QUEUED * 2 + executed + wire.OK + wrong)
    story.lose()
    story.link.connected(0.0)
    master = Master()
    identity = master.identity().replace(master.marker(), wrong)
    decision = story.answer(identity)
    assert isinstance(decision, Halt), f"for ever, for all clients, and the reason is misleading: {decision}"


# --- discovery -------------------------------------------------------------------------------------------------------


def discovery() -> Discovery:
    result = Discovery()
    result.sentinel_said(S1, SentinelView(A, 1, at=0.0))
    result.nodes_named(S1, {B})
    return result


def test_master_is_found_again_without_any_sentinel() -> None:
    known = discovery()
    known.sentinel_lost(S1)
    known.connection_failed(A, 10.0)  # its connection broke, and nothing else
    known.node_said(A, master=True, now=10.5)
    assert A in known.candidates(11.0) or A in known.to_probe(), "neither asked nor tried until a Sentinel is back"


def test_named_master_wins_over_a_node_that_only_says_so() -> None:
    known = discovery()
    known.connection_failed(A, 10.0)  # A restarted in 0.3 s
    known.node_said(B, master=True, now=10.1)  # an old master that no Sentinel reaches
    assert known.named_since(13.0) is None, "the Sentinels may not have noticed yet"
    known.sentinel_said(S1, SentinelView(A, 1, at=14.0, down=True))
    assert known.named_since(13.0) is None, "it is down: B may be the one that they are promoting"
    known.sentinel_said(S1, SentinelView(A, 1, at=60.0, down=False))
    assert known.named_since(13.0) == A


# --- app -------------------------------------------------------------------------------------------------------------


class _Client:
    def __init__(self) -> None:
        self.resumed = 0
        self.backlog = 1
        self.session: Any = self

    def resume(self) -> None:
        self.resumed += 1
        self.backlog = 0

    def regulate(self) -> None:
        pass


def make_link(folder: Path | None = None, **options: Any) -> Link:
    config = LinkConfig(
        target=parse_redis_url("redis://127.0.0.1:1"),
        listen=("127.0.0.1", 0),
        link_id="x",
        marker_key="m",
        journal_dir=folder,
        fsync=Fsync.NEVER,
        **options,
    )
    link = Link(config)
    link.sequencer._last_history = link.sequencer._history  # as after a first handshake
    return link


def accept(link: Link, payload: bytes = b"x") -> None:
    link.sequencer.accept(Write(payload, 1), 0.0)


def test_clients_go_on_after_a_disk_that_was_full_for_a_moment(tmp_path: Path) -> None:
    async def scenario() -> int:
        link = make_link(tmp_path)
        link._progressed()
        assert link._was_accepting
        client: Any = _Client()
        link._clients[1] = client
        file = link._file
        assert file is not None
        flush, file.flush = file.flush, _no_space  # type: ignore[method-assign]
        accept(link)
        assert not link._before_send()
        assert not link.may_accept()  # commands of clients go to their backlogs
        file.flush = flush  # type: ignore[method-assign]
        assert link._before_send()  # Upstream._tend does this every 50 ms
        for _ in range(5):
            link._progressed()
        return client.resumed

    assert asyncio.run(scenario()) > 0, "clients that wait are never resumed"


def _no_space(next_seq: int, **_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_clients_go_on_after_the_journal_was_full() -> None:
    async def scenario() -> int:
        link = make_link(journal_max_bytes=1000)
        accept(link, b"x" * 600)
        link.sequencer._applied = 1
        link.sequencer.journal.entry(1).acknowledged = True
        link._progressed()
        client: Any = _Client()
        link._clients[1] = client
        accept(link, b"x" * 600)  # during an outage
        assert not link.may_accept()
        assert link.sequencer.trim(1, 1.0) == 1  # _maintain
        assert link.may_accept()
        for _ in range(5):
            link._progressed()
        return client.resumed

    assert asyncio.run(scenario()) > 0, "clients that wait are never resumed"


def test_departed_clients_are_forgotten() -> None:
    async def scenario() -> int:
        link = make_link()
        link._progressed()
        for _ in range(100):
            client: Any = _Client()
            link.closed(client)
            client.resume()  # its own outstanding answer came
            link._progressed()
        return len(link._departed)

    assert asyncio.run(scenario()) <= 1


def test_accepted_entries_are_on_disk_during_an_outage(tmp_path: Path) -> None:
    async def scenario() -> None:
        link = make_link(tmp_path)
        link.submit_write(Write(b"x", 1))
        await asyncio.sleep(0.05)

    asyncio.run(scenario())
    size = sum(path.stat().st_size for path in tmp_path.glob("*.journal"))
    assert size > 4, "only in memory: gone with a SIGKILL of the link"


def test_full_journal_is_loud(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> dict[str, Any]:
        link = make_link(journal_max_bytes=1000)
        accept(link, b"x" * 2000)
        assert not link.may_accept()
        link._progressed()
        return link.status()

    status = asyncio.run(scenario())
    assert caplog.records or not status["healthy"] or status["reason"], status["state"]


def full_link(**markers: int) -> Link:
    """Return a link with a full journal of ten entries, applied a minute ago but for the last two, and its nodes."""
    link = make_link(journal_max_bytes=10 * ENTRY_OVERHEAD_BYTES)
    now = time.monotonic()
    for seq in range(1, 11):
        link.sequencer.accept(Write(b"", 1), now - (5.0 if seq < 9 else 0.5))
        link.sequencer.journal.entry(seq).acknowledged = True
    link.sequencer._applied = 10
    for number, seq in enumerate(markers.values()):
        node = ("10.0.0.1", number)
        link.replicas.seen[node] = seq
        link.replicas._history[node] = deque([(now - 2.0, seq), (now - 0.1, seq)])
    assert not link.may_accept()
    return link


def test_full_journal_forgets_early_what_all_nodes_have_and_no_more_than_it_must(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        link = full_link(a=10, b=9)
        assert link._give_way() == 1, "down to nine tenths of the bound"
        assert link.may_accept()
        assert link.sequencer.journal.first_seq == 2
        assert link.status()["forgotten_early"] == 1
        assert "LINK_JOURNAL_MAX_BYTES" in caplog.text

    asyncio.run(scenario())


@pytest.mark.parametrize("reason", ["a node lacks them", "a node is silent", "they are younger than a second", "new"])
def test_full_journal_forgets_nothing_early_that_may_be_needed(reason: str) -> None:
    async def scenario() -> None:
        link = full_link(a=10, b=0 if reason == "a node lacks them" else 10)
        if reason == "a node is silent":
            link.replicas.silent = {("10.0.0.1", 1)}
        elif reason == "they are younger than a second":
            for entry in link.sequencer.journal.range(1, 10):
                entry.accepted_at = time.monotonic() - 0.2
        elif reason == "new":
            # Shown for the first time just now: it may be in memory only.
            link.replicas._history["10.0.0.1", 1].popleft()
        assert link._give_way() == 0
        assert not link.may_accept()
        assert len(link.sequencer.journal) == 10

    asyncio.run(scenario())


def test_end_of_the_upstream_task_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> bool:
        link = make_link()

        async def broken() -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(link.upstream, "run", broken)
        task = asyncio.create_task(link.run())
        done, _ = await asyncio.wait([task], timeout=1.0)
        unhealthy = not link.status()["healthy"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return bool(done) or unhealthy

    assert asyncio.run(scenario()), "the link serves nothing, for ever, and says it is healthy"


def test_odd_marker_on_a_replica_does_not_end_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        link = make_link()

        class Odd:
            async def hmget(self, *_: object) -> tuple[str, str]:
                return f"{link.sequencer.state.journal_id}:1:1", "not a number"

        link.replicas._connections[A] = Odd()  # type: ignore[assignment]
        await link.replicas.refresh({A})

    asyncio.run(scenario())


def test_trim_does_not_trust_what_a_dead_node_only_had_in_memory() -> None:
    async def scenario() -> int:
        link = make_link()
        link.replicas.seen = {A: 10, B: 10}
        link.replicas._history = {A: deque([(0.0, 5), (60.0, 10), (130.0, 10)]), B: deque([(0.0, 5), (59.0, 10)])}
        for _ in range(10):
            accept(link)
        for entry in link.sequencer.journal.range(1, 10):
            entry.acknowledged = True
        link.sequencer._applied = 10
        # B died right after showing 10; its AOF ends at 5. A minute later:
        link.replicas.silent = {B}
        return link.sequencer.trim(link.replicas.held_everywhere(60.0), 60.0)

    assert asyncio.run(scenario()) <= 5, "if B has to become the master, the journal begins behind it: halted"


def test_identify_is_atomic_or_a_halt_is_confirmed_by_a_second_look() -> None:
    """Found by the model at 100 steps and some thousand examples."""
    state = World()
    state.serve(index=0, rounds=1)
    state.crash_link()
    state.replicate(replica=1, source=0)
    state.restart_from_disk(back=0, index=0)
    state.connect(index=0)
    state.promote(index=1)
    state.answer(count=5)  # ... the look at the empty data set is under way
    state.demote(index=0)  # the data set is replaced
    state.answer(count=1)  # DBSIZE: 1
    state.teardown()


def test_halted_link_does_not_answer_from_the_journal() -> None:
    story = ready()
    story.lose()
    _, decision = story.identify(Master(owner="other:1:1", seq=4))
    assert isinstance(decision, Halt)
    story.accept("RPUSH a 1")
    story.link.acknowledge_held(story.now + 10)
    assert story.replies == {}, "told that it will be applied, by a link that has stopped for good"
