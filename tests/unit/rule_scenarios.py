"""What each rule is for, as a story: it passes with the link as it is, and fails by an assertion without the rule."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

from trader_node.link import commands, entries, wire
from trader_node.link.commands import Kind, StreamIds, classify
from trader_node.link.decisions import Halt, Ready, Reconnect
from trader_node.link.entries import LOST_REPLY, Entry, Form
from trader_node.link.journal import Journal
from trader_node.link.replicas import ReplicaMarkers
from trader_node.link.scripts import ScriptMode, ScriptStore
from trader_node.link.sequencer import Phase, Sequencer
from trader_node.link.state import LinkState

from . import test_commands, test_holes, test_session
from .model import MARKER, Connection, Node
from .test_sequencer import NOPERM, Master, Story, words
from .world import World

# --- scenarios: a link against a model of Redis ----------------------------------------------------------------------


def frozen_master_thaws() -> None:
    world = World()
    world.serve(index=0, rounds=1)
    world.write(commands=1, form=Form.SINGLE)
    world.freeze_and_thaw()
    world.every_data_set_is_a_prefix()
    world.teardown()


def old_bytes_behind_a_refusal() -> None:
    """A write is refused for want of rights and its client is told so; then the rights are back, and old bytes run."""
    world = World()
    node = world.nodes[0]
    world.serve(index=0, rounds=1)
    world.write(commands=1, form=Form.SINGLE)
    world.pump()
    world.lose_connection()
    world.connect(index=0)
    world.answer(count=50)
    world.answer(count=50)
    assert world.link.phase is Phase.READY
    node.forbidden = {b"RPUSH"}
    world.pump()
    world.answer(count=50)
    assert world.replies == {1: b"-" + NOPERM.encode() + b"\r\n"}
    node.forbidden = set()
    world.run_late_bytes(index=0)
    assert node.data.values == [], "the client was told that it is refused, and it is applied"


def _read_all(connection: Connection, link: Sequencer) -> Any:
    """Let the node execute what it got, and the link take the answers."""
    decision = None
    while not isinstance(decision, Halt | Reconnect) and connection.execute(50):
        answer, decision = link.receive(connection.take(), 0.0)
        link.deliver()
        connection.send(answer)
    return decision


def _link(node: Node, mine: LinkState) -> tuple[Sequencer, Connection]:
    link = Sequencer(Journal(), mine, MARKER)
    connection = Connection(node)
    connection.send(link.connected(0.0))
    return link, connection


def _writes(link: Sequencer, connection: Connection, value: int) -> None:
    link.accept(entries.Write(wire.encode_command(b"RPUSH", b"list", value), 1), 0.0)
    connection.send(link.next_group(0.0))


def later_run_takes_over_between_exec_and_watch() -> None:
    """A frozen link comes back while its successor, on a copy of the journal, has the data set."""
    node = Node("a")
    node.master = True
    old, old_connection = _link(node, LinkState("mine", 1))
    assert isinstance(_read_all(old_connection, old), Ready)
    _writes(old, old_connection, 1)
    old_connection.execute(4)  # MULTI, RPUSH, HSET, EXEC
    new = Sequencer(Journal(), LinkState("mine", 2, contacted=True), MARKER)
    new.journal.append(Entry(1, 0, 0, Form.SINGLE, 1, wire.encode_command(b"RPUSH", b"list", 1)))
    new_connection = Connection(node)
    new_connection.send(new.connected(0.0))
    assert isinstance(_read_all(new_connection, new), Ready)
    old_connection.execute(50)
    _, decision = old.receive(old_connection.take(), 0.0)
    assert isinstance(decision, Reconnect), "it goes on, though another run owns the data set"


def second_link_without_a_journal() -> None:
    """Two links of one trader id that keep their entries in memory."""
    node = Node("a")
    node.master = True
    first, connection = _link(node, LinkState(incarnation=1))
    _read_all(connection, first)
    _writes(first, connection, 1)
    _read_all(connection, first)
    second, connection = _link(node, LinkState(incarnation=1))
    decision = _read_all(connection, second)
    assert not isinstance(decision, Ready), "it takes the data set of a link that runs"


def flushall_and_then_a_failover() -> None:
    world = World()
    world.serve(index=0, rounds=1)
    world.write(commands=2, form=Form.TRANSACTION)
    world.serve(index=0, rounds=1)
    world.flush()
    world.serve(index=0, rounds=1)
    world.replicate(source=0, replica=1)
    world.every_data_set_is_a_prefix()
    assert world.nodes[0].data.marker.keys() == {b"o", b"s"}
    handshakes = world.link.counters.handshakes
    world.write(commands=1, form=Form.SINGLE)
    world.serve(index=0, rounds=1)
    assert world.link.counters.handshakes == handshakes, "the link lost its own marker"
    world.lose_connection()
    world.promote(index=1)
    world.serve(index=1, rounds=2)
    world.every_data_set_is_a_prefix()
    assert world.nodes[1].data.values == world.nodes[0].data.values != []
    world.teardown()


def refused_and_then_a_crash() -> None:
    world = World()
    world.serve(index=0, rounds=1)
    world.write_that_redis_refuses()
    world.batch_of_which_redis_refuses_some(broken=[True, False])
    world.serve(index=0, rounds=4)
    assert not world.link.unfinished
    world.lose_connection()
    world.crash_link()
    journal = world.link.journal
    assert [journal.entry(seq).commands for seq in (1, 2)] == [0, 1], "it will be sent again to the next master"


# --- scenarios: reply by reply ---------------------------------------------------------------------------------------


def _three_applied() -> Story:
    story = Story()
    story.connect()
    for value in (1, 2, 3):
        story.accept(f"RPUSH a {value}")
        story.pump()
        story.applied()
    story.lose()
    return story


def failover_during_replay() -> None:
    story = _three_applied()
    assert story.connect(Master("run2", "history2", owner="mine:1:1", seq=1)) == Ready(1, 2)
    assert story.pump() == ["RPUSH a 2", "RPUSH a 3"]
    story.lose()
    assert story.connect(Master("run3", "history3", owner="mine:1:1", seq=0)) == Ready(0, 3)
    assert story.pump() == ["RPUSH a 1", "RPUSH a 2", "RPUSH a 3"]
    story.applied()
    assert story.link.caught_up


def two_failovers_in_a_row() -> None:
    story = _three_applied()
    story.connect(Master("run2", "history2", owner="mine:1:1", seq=2))
    assert story.pump() == ["RPUSH a 3"]
    story.applied()
    story.lose()
    # It never got what was replayed to the one before it.
    story.connect(Master("run3", "history3", owner="mine:1:1", seq=1))
    assert story.pump() == ["RPUSH a 2", "RPUSH a 3"]


def marker_changes_within_the_first_look() -> None:
    story = Story()
    story.link.connected(0.0)
    master = Master(owner="mine:1:1", seq=0)
    changed = master.identity()
    place = changed.rindex(master.marker())
    other = Master(owner="mine:1:1", seq=4).marker()
    _, decision = story.receive(changed[:place] + other + changed[place + len(master.marker()) :])
    assert isinstance(decision, Reconnect), "taken over by what it held before the WATCH"


def lost_answer_is_not_told_before_the_marker_was_read() -> None:
    story = Story()
    story.connect()
    story.accept("SET a 1")
    story.accept("RPUSH a 1")
    story.pump()
    story.lose()
    story.connect(Master("run1", "history1", owner="mine:1:1", seq=1))
    assert story.replies == {1: wire.OK}, "told of an entry that is not applied"
    assert story.pump() == ["RPUSH a 1"]


def lost_answer_that_is_not_certain() -> None:
    story = Story()
    story.connect()
    story.accept("SET a 1 NX")
    story.pump()
    story.lose()
    story.connect(Master("run1", "history1", owner="mine:1:1", seq=1))
    assert story.replies == {1: LOST_REPLY}


def whole_transaction_whose_answer_was_lost() -> None:
    hub = test_session.Hub()
    client = test_session.Client(hub).sends("MULTI", "SET a 1", "INCR b", "EXEC")
    hub.writes[0].deliver_lost()
    assert client.told == wire.OK + wire.QUEUED * 2 + b"*2\r\n+OK\r\n" + LOST_REPLY


def moment_passes(code: str) -> None:
    story = Story()
    story.connect()
    story.accept("RPUSH a 1")
    story.pump()
    decision = story.aborted({0: f"{code} for now", -1: f"{code} for now"})
    assert decision is None
    assert story.replies == {}, "shown to the client"
    assert story.pump() == [], "not before the pause is over"
    story.now += 0.06
    assert story.pump() == ["RPUSH a 1"]
    story.applied()
    assert story.replies == {1: b":1\r\n"}


def role_is_looked_for_elsewhere(code: str) -> None:
    story = Story()
    story.connect()
    story.accept("RPUSH a 1")
    story.pump()
    decision = story.aborted({0: f"{code} no master", -1: f"{code} no master"})
    assert story.replies == {}, "shown to the client"
    assert isinstance(decision, Reconnect)
    assert decision.rediscover


def mistake_inside_a_batch_of_two_clients(error: str) -> None:
    story = Story()
    story.connect()
    story.accept("RPUSH a 1")
    story.accept("RPUSH")
    story.accept("RPUSH a 2")
    story.pump()
    assert story.aborted({1: error}) is None
    assert story.replies == {2: wire.encode_error(error)}
    assert story.pump() == ["RPUSH a 1", "RPUSH a 2"], "the others go on without it, at once"


# --- scenarios: which entries are forgotten --------------------------------------------------------------------------

A, B, C = ("10.0.0.1", 6379), ("10.0.0.2", 6379), ("10.0.0.3", 6379)


def _markers(**sightings: list[tuple[float, int]]) -> ReplicaMarkers:
    made = ReplicaMarkers(test_holes.parse_redis_url("redis://127.0.0.1:1"), MARKER, "mine")
    for name, node in (("a", A), ("b", B), ("c", C)):
        if name in sightings:
            seen = sightings[name]
            made.seen[node] = seen[-1][1] if seen else 0
            if seen:
                made._history[node] = deque(seen)
    return made


def node_that_is_down_may_come_back_as_it_was() -> None:
    replicas = _markers(a=[(0.0, 9), (60.0, 10)], b=[(-90.0, 3), (-30.0, 3)])
    replicas.silent = {B}
    assert replicas.held_everywhere(60.0) == 3


def node_that_never_answered_holds_nothing() -> None:
    replicas = _markers(a=[(0.0, 9), (60.0, 10)], b=[])
    assert replicas.held_everywhere(60.0) == 0


def node_shows_what_is_not_on_its_disk_yet() -> None:
    assert _markers(a=[(0.0, 5), (59.0, 10), (60.0, 10)]).held_everywhere(60.0) == 5
    assert _markers(a=[(59.0, 10), (60.0, 10)]).held_everywhere(60.0) == 0


def node_was_rolled_back_meanwhile() -> None:
    assert _markers(a=[(0.0, 10), (30.0, 3), (60.0, 10)]).held_everywhere(60.0) == 3


def _sightings(of_owner: str) -> int:
    replicas = _markers()

    class Shows:
        async def hmget(self, *_: object) -> tuple[str, str]:
            return of_owner, "7"

    replicas._connections[A] = Shows()  # type: ignore[assignment]
    asyncio.run(replicas.refresh({A}))
    return replicas.seen[A]


def marker_of_another_journal_counts_for_nothing() -> None:
    assert _sightings("mine:1:1") == 7
    assert _sightings("other:1:1") == 0


# --- scenarios: the journal comes first ------------------------------------------------------------------------------


def journal_is_written_before_the_transaction_is_sent(tmp_path: Path) -> None:
    sizes = []

    async def scenario() -> None:
        link = test_holes.make_link(tmp_path)
        master = Master()
        link.sequencer.connected(0.0)
        answer, _ = link.sequencer.receive(master.identity(), 0.0)
        master.owner, master.seq = words(answer)[1].split()[3], 0
        executed = wire.join_array([wire.encode_integer(0), master.marker()])
        link.sequencer.receive(wire.OK + wire.QUEUED * 2 + executed + wire.OK + master.marker(), 0.0)

        class Wire:
            def write(self, data: bytes) -> None:
                if b"secret" in data:
                    sizes.append(sum(b"secret" in path.read_bytes() for path in tmp_path.glob("*.journal")))

        link.upstream._write = Wire()  # type: ignore[assignment]
        test_holes.accept(link, wire.encode_command(b"RPUSH", b"a", b"secret"))
        link.upstream._pump()
        link.upstream._write = None

    asyncio.run(scenario())
    assert sizes == [1], "sent, and not in the journal: a crash now forgets what is applied"


# --- scenarios: commands ---------------------------------------------------------------------------------------------

RELATIVE = {
    "SET": "SET k v EX 10",
    "GETEX": "GETEX k PX 10",
    "SETEX": "SETEX k 10 v",
    "PSETEX": "PSETEX k 10 v",
    "EXPIRE": "EXPIRE k 10",
    "PEXPIRE": "PEXPIRE k 10",
    "HEXPIRE": "HEXPIRE k 10 FIELDS 1 f",
    "HPEXPIRE": "HPEXPIRE k 10 FIELDS 1 f",
    "RESTORE": "RESTORE k 10 dump",
    "XADD": "XADD s * f v",
    "XTRIM": "XTRIM s MAXLEN ~ 5",
    "XCLAIM": "XCLAIM s g c 0 1-1 IDLE 5",
}


def pinned_when_accepted(text: str) -> None:
    verdict = test_commands.verdict(text)
    assert verdict.kind is Kind.REFUSED or b" ".join(verdict.arguments).decode() != text, "means another thing later"
    # What is journalled must not be pinned again.
    if verdict.kind is Kind.WRITE:
        again = classify(verdict.arguments, test_commands.NOW + 60_000, StreamIds())
        assert again.arguments == verdict.arguments


def refused_because_of_the_clock(text: str) -> None:
    assert test_commands.verdict(text).kind is Kind.REFUSED, "a replay claims something else"


def scripts_are_refused() -> None:
    for text in ("EVAL x 0", "EVALSHA x 0", "FCALL f 0"):
        assert test_commands.verdict(text).kind is Kind.REFUSED


def _trusted(*arguments: bytes, store: ScriptStore) -> Any:
    return classify(arguments, 0, StreamIds(), commands.Allowance(scripts=ScriptMode.DETERMINISTIC, store=store))


def scripts_travel_with_their_text() -> None:
    store = ScriptStore()
    text = b"return redis.call('SET', KEYS[1], 1)"
    digest = store.add(text)
    verdict = _trusted(b"EVALSHA", digest, b"1", b"k", store=store)
    assert verdict.arguments == (b"EVAL", text, b"1", b"k"), "a promoted replica answers NOSCRIPT"


def unknown_script_is_asked_for() -> None:
    verdict = _trusted(b"EVALSHA", b"0" * 40, b"0", store=ScriptStore())
    assert verdict.kind is Kind.REFUSED
    assert verdict.reason.startswith("NOSCRIPT")
