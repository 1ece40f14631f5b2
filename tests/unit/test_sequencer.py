"""Stories of the sequencer that the model test reaches only by luck, told reply by reply."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from trader_node.link import wire
from trader_node.link.decisions import Cause, Decision, Halt, Ready, Reconnect
from trader_node.link.entries import LOST_REPLY, Entry, Form, Write
from trader_node.link.journal import Journal
from trader_node.link.policy import OnGap, OnOom
from trader_node.link.sequencer import Limits, Phase, Sequencer
from trader_node.link.state import LinkState

MARKER = "marker"
ABORTED = "EXECABORT Transaction discarded because of previous errors."
NOPERM = "NOPERM this user has no permissions to run the 'rpush' command"
OOM = "OOM command not allowed when used memory > 'maxmemory'."
NOREPLICAS = "NOREPLICAS Not enough good replicas to write."
WRONGTYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"


@dataclass
class Log:
    """What went to the journal's file."""

    records: list[tuple[str, int]] = field(default_factory=list)

    def append(self, entry: Entry) -> None:
        self.records.append(("entry", entry.seq))

    def append_void(self, seq: int) -> None:
        self.records.append(("void", seq))

    def append_skip(self, seq: int) -> None:
        self.records.append(("skip", seq))

    def append_replaced(self, entry: Entry) -> None:
        self.records.append(("replaced", entry.seq))

    def append_applied(self, seq: int) -> None:
        self.records.append(("applied", seq))


@dataclass
class Master:
    """What a node shows of itself."""

    run_id: str = "run1"
    replid: str = "history1"
    role: str = "master"
    owner: str | None = None
    seq: int | None = None
    keys: int = 0

    def marker(self) -> bytes:
        def bulk(value: object) -> bytes:
            return b"$-1\r\n" if value is None else wire.encode_bulk(str(value).encode())

        return wire.join_array([bulk(self.owner), bulk(self.seq)])

    def identity(self) -> bytes:
        look = [
            wire.join_array([wire.encode_bulk(self.role.encode())]),
            wire.encode_bulk(f"# Server\r\nrun_id:{self.run_id}\r\n".encode()),
            wire.encode_bulk(f"# Replication\r\nmaster_replid:{self.replid}\r\n".encode()),
            wire.encode_bulk(f"# Keyspace\r\ndb0:keys={self.keys},expires=0\r\n".encode()),
            self.marker(),
        ]
        databases = wire.join_array([wire.encode_bulk(b"databases"), wire.encode_bulk(b"16")])
        watched = wire.OK + self.marker()
        return wire.OK + wire.QUEUED * len(look) + wire.join_array(look) + watched + databases


def words(data: bytes) -> list[str]:
    framer = wire.ReplyFramer()
    framer.feed(data)
    found = []
    while (reply := framer.next()) is not None:
        arguments = wire.decode(reply)
        assert isinstance(arguments, list)
        found.append(b" ".join(arguments).decode())
    return found


class Story:
    """A link and what it sends, with the master's answers given by the test."""

    def __init__(
        self,
        journal: Journal | None = None,
        state: LinkState | None = None,
        auth: bytes = b"",
        on_gap: OnGap = OnGap.STOP,
        on_oom: OnOom = OnOom.REFUSE,
    ) -> None:
        self.log = Log()
        self.state = state or LinkState("mine", 1)
        self.link = Sequencer(
            journal or Journal(),
            self.state,
            MARKER,
            log=self.log,
            limits=Limits(group_entries=4, retry_delay=0.05, operator_delay=1.0),
            auth=auth,
            on_gap=on_gap,
            on_oom=on_oom,
        )
        self.auth = bool(auth)
        self.now = 0.0
        self.master = Master()
        self.replies: dict[int, bytes] = {}
        self.group: list[str] = []

    # --- the client ---

    def accept(self, *commands: str, db: int = 0, end_db: int | None = None, form: Form | None = None) -> int:
        """Accept a command, or several as a transaction, and return its number."""
        seq = self.link.journal.last_seq + 1

        def sink(reply: bytes) -> None:
            assert seq not in self.replies, "answered twice"
            self.replies[seq] = reply

        write = Write(
            b"".join(wire.encode_command(*command.split()) for command in commands),
            len(commands),
            form or (Form.SINGLE if len(commands) == 1 else Form.TRANSACTION),
            db=db,
            end_db=db if end_db is None else end_db,
            sink=sink,
        )
        self.link.accept(write, self.now)
        return seq

    # --- the connection ---

    def receive(self, data: bytes) -> tuple[bytes, Decision | None]:
        received = self.link.receive(data, self.now)
        self.link.deliver()
        return received

    def answer(self, data: bytes) -> Decision | None:
        answer, decision = self.receive(data)
        assert answer == b""
        return decision

    def identify(self, master: Master) -> tuple[bytes, Decision | None]:
        self.master = master
        self.link.connected(self.now)
        return self.receive(wire.OK * self.auth + master.identity())

    def connect(self, master: Master | None = None) -> Ready:
        """Go through the whole handshake."""
        answer, decision = self.identify(master or self.master)
        assert decision is None, decision
        return self.take_over(answer)

    def take_over(self, answer: bytes) -> Ready:
        """Answer the second half of the handshake."""
        master = self.master
        multi, own, *rest = words(answer)
        assert (multi, rest) == ("MULTI", [f"HMGET {MARKER} o s", "EXEC", f"WATCH {MARKER}", f"HMGET {MARKER} o s"])
        self._set(own)
        executed = wire.join_array([wire.encode_integer(0), master.marker()])
        decision = self.answer(wire.OK + wire.QUEUED * 2 + executed + wire.OK + master.marker())
        assert isinstance(decision, Ready), decision
        return decision

    def _set(self, own: str) -> None:
        fields = own.split()[2:]
        values = dict(zip(fields[::2], fields[1::2], strict=True))
        self.master.owner = values["o"]
        if "s" in values:
            self.master.seq = int(values["s"])

    def pump(self) -> list[str]:
        """Return the commands of the next transaction that a client's entries brought, with their SELECTs."""
        group = words(self.link.next_group(self.now))
        if not group:
            return []
        self.group = group
        assert self.group[0] == "MULTI"
        assert self.group[-3:] == ["EXEC", f"WATCH {MARKER}", f"HMGET {MARKER} o s"]
        assert self.group[-4].startswith(f"HSET {MARKER} o {self.master.owner} s ")
        return self.group[1:-4]

    @property
    def queued(self) -> int:
        return len(self.group) - 4

    def applied(self, *results: bytes) -> Decision | None:
        """Execute the transaction: ``results`` are those of the commands that are not SELECT."""
        left = iter(results)
        outcome = [wire.OK if command.startswith("SELECT") else next(left, b":1\r\n") for command in self.group[1:-4]]
        self._set(self.group[-4])
        executed = wire.join_array([*outcome, wire.encode_integer(0)])
        return self.answer(wire.OK + wire.QUEUED * self.queued + executed + wire.OK + self.master.marker())

    def aborted(self, errors: dict[int, str], text: str = ABORTED) -> Decision | None:
        """Refuse the transaction, with the errors of the queued commands by their place; -1 is the link's own."""
        replies = [wire.QUEUED] * self.queued
        for place, error in errors.items():
            replies[place] = wire.encode_error(error)
        return self.answer(wire.OK + b"".join(replies) + wire.encode_error(text) + wire.OK + self.master.marker())

    def lose(self) -> None:
        """Lose the connection."""
        self.link.disconnected()


@pytest.fixture
def story() -> Story:
    """A link that is ready on an empty master."""
    story = Story()
    story.connect()
    return story


# --- handshake -------------------------------------------------------------------------------------------------------


def test_first_contact() -> None:
    story = Story()
    assert not story.link.numbered
    sent = words(story.link.connected(0.0))
    look = ["ROLE", "INFO server", "INFO replication", "INFO keyspace", f"HMGET {MARKER} o s"]
    watch = [f"WATCH {MARKER}", f"HMGET {MARKER} o s"]
    assert sent == ["MULTI", *look, "EXEC", *watch, "CONFIG GET databases proto-max-bulk-len client-query-buffer-limit"]
    assert story.connect() == Ready(0, 0)
    assert (story.master.owner, story.master.seq) == ("mine:1:2", 0)
    assert story.link.numbered
    assert story.state.contacted
    assert story.link.state_changed


def test_password_is_sent_first_and_has_a_reply_of_its_own() -> None:
    story = Story(auth=wire.encode_command(b"AUTH", b"p"))
    assert words(story.link.connected(0.0))[0] == "AUTH p"
    assert story.connect() == Ready(0, 0)


def test_handshake_byte_by_byte() -> None:
    story = Story()
    story.link.connected(0.0)
    identity = story.master.identity()
    for byte in identity[:-1]:
        assert story.receive(bytes([byte])) == (b"", None)
    answer, decision = story.receive(identity[-1:])
    assert decision is None
    assert words(answer)[0] == "MULTI"


@pytest.mark.parametrize(
    ("error", "rediscover", "delay"),
    [
        ("LOADING Redis is loading the dataset in memory", False, 0.05),
        ("MASTERDOWN Link with MASTER is down", True, 0.05),
        ("BUSY Redis is busy running a script", False, 0.05),
        ("NOAUTH Authentication required.", False, 1.0),
    ],
)
def test_error_in_the_first_part_of_the_handshake(error: str, rediscover: bool, delay: float) -> None:
    story = Story()
    story.link.connected(0.0)
    decision = story.answer(wire.encode_error(error) * 10)
    assert isinstance(decision, Reconnect)
    assert (decision.rediscover, decision.delay) == (rediscover, delay)
    assert story.link.last_refusal == error


@pytest.mark.parametrize(("error", "remedy"), [(OOM, "maxmemory"), (NOPERM, "rights")])
def test_handshake_that_is_refused_for_good_says_what_to_do(error: str, remedy: str) -> None:
    story = Story()
    story.identify(Master())
    refusal = wire.OK + wire.encode_error(error) + wire.QUEUED + wire.encode_error(ABORTED)
    decision = story.answer(refusal + wire.OK + Master().marker())
    assert isinstance(decision, Reconnect)
    assert decision.operator
    assert decision.reason.endswith(remedy)


@pytest.mark.parametrize(("error", "rediscover"), [(NOREPLICAS, False), ("READONLY replica", True)])
def test_error_in_the_second_part_of_the_handshake(error: str, rediscover: bool) -> None:
    story = Story()
    story.identify(Master())
    refusal = wire.OK + wire.encode_error(error) + wire.QUEUED + wire.encode_error(ABORTED)
    decision = story.answer(refusal + wire.OK + Master().marker())
    assert isinstance(decision, Reconnect)
    assert decision.rediscover is rediscover
    story.lose()
    assert story.connect() == Ready(0, 0)


def test_wrong_password() -> None:
    story = Story(auth=wire.encode_command(b"AUTH", b"p"))
    story.link.connected(0.0)
    decision = story.answer(wire.encode_error("WRONGPASS invalid") + wire.encode_error("NOAUTH required") * 10)
    assert isinstance(decision, Reconnect)
    assert "check user, password and rights" in decision.reason
    assert decision.delay == 1.0


def test_replica_is_left() -> None:
    _, decision = Story().identify(Master(role="slave"))
    assert isinstance(decision, Reconnect)
    assert decision.rediscover


def test_marker_touched_during_the_handshake() -> None:
    story = Story()
    story.identify(Master())
    decision = story.answer(wire.OK + wire.QUEUED * 2 + wire.NIL_ARRAY + wire.OK + Master().marker())
    assert isinstance(decision, Reconnect)
    assert story.link.phase is not Phase.READY


def test_owner_changed_right_after_the_takeover() -> None:
    story = Story()
    story.identify(Master())
    executed = wire.join_array([b":0\r\n", Master().marker()])
    decision = story.answer(wire.OK + wire.QUEUED * 2 + executed + wire.OK + Master(owner="other:1:1", seq=0).marker())
    assert isinstance(decision, Reconnect)


def test_what_does_not_speak_resp_is_left() -> None:
    story = Story()
    story.link.connected(0.0)
    decision = story.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert isinstance(decision, Reconnect)
    assert decision.rediscover


# --- transactions ----------------------------------------------------------------------------------------------------


def test_entries_go_together_and_get_their_own_replies(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.accept("SET b 2", "GET b")
    assert story.pump() == ["RPUSH a 1", "SET b 2", "GET b"]
    assert story.pump() == [], "one transaction in flight"
    assert story.applied(b":1\r\n", wire.OK, b"$1\r\n2\r\n") is None
    assert story.replies == {1: b":1\r\n", 2: b"*2\r\n+OK\r\n$1\r\n2\r\n"}
    assert story.log.records == [("entry", 1), ("entry", 2), ("applied", 2)]
    assert (story.master.seq, story.link.unfinished) == (2, 0)


def test_next_transaction_waits_for_the_verified_marker(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    story.accept("RPUSH a 2")
    story.answer(wire.OK + wire.QUEUED * 2 + b"*2\r\n:1\r\n:0\r\n" + wire.OK)
    assert story.replies == {1: b":1\r\n"}
    assert story.pump() == []
    story.answer(Master(owner=story.master.owner, seq=1).marker())
    assert story.pump() == ["RPUSH a 2"]


def test_replies_byte_by_byte(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    story.master.seq = 1
    for byte in wire.OK + wire.QUEUED * 2 + b"*2\r\n:1\r\n:0\r\n" + wire.OK + story.master.marker():
        assert story.answer(bytes([byte])) is None
    assert story.replies == {1: b":1\r\n"}
    assert story.link.waiting_since() is None


def test_more_entries_than_one_transaction_takes(story: Story) -> None:
    for value in range(1, 7):
        story.accept(f"RPUSH a {value}")
    assert story.pump() == [f"RPUSH a {value}" for value in (1, 2, 3, 4)]
    story.applied()
    assert story.pump() == ["RPUSH a 5", "RPUSH a 6"]
    story.applied()
    assert sorted(story.replies) == [1, 2, 3, 4, 5, 6]


def test_entry_bigger_than_a_transaction_goes_alone() -> None:
    story = Story()
    story.link._limits = Limits(group_bytes=100)
    story.connect()
    big = "x" * 500
    for value in ("1", big, "2"):
        story.accept(f"RPUSH a {value}")
    groups = []
    while group := story.pump():
        groups.append(group)
        story.applied()
    assert groups == [["RPUSH a 1"], [f"RPUSH a {big}"], ["RPUSH a 2"]]


def test_several_databases_in_one_transaction(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.accept("RPUSH a 2", db=3)
    story.accept("SET b 3", "SELECT 5", "SET b 4", db=3, end_db=5)
    story.accept("RPUSH a 5", db=5)
    assert story.pump() == [
        "RPUSH a 1",
        "SELECT 3",
        "RPUSH a 2",
        "SET b 3",
        "SELECT 5",
        "SET b 4",
        "RPUSH a 5",
        # The marker is in database 0.
        "SELECT 0",
    ]
    story.applied(b":1\r\n", b":2\r\n", wire.OK, wire.OK, b":5\r\n")
    assert story.replies == {1: b":1\r\n", 2: b":2\r\n", 3: b"*3\r\n+OK\r\n+OK\r\n+OK\r\n", 4: b":5\r\n"}


def test_error_of_a_command_that_ran_is_its_reply(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.accept("SET b 1", "RPUSH b 2")
    story.pump()
    assert story.applied(WRONGTYPE, wire.OK, WRONGTYPE) is None
    assert story.replies == {1: WRONGTYPE, 2: b"*2\r\n+OK\r\n" + WRONGTYPE}
    assert story.link.unfinished == 0


def test_flushall_of_a_client_does_not_take_the_marker_with_it(story: Story) -> None:
    story.accept("FLUSHALL")
    assert story.pump() == ["FLUSHALL"]
    # The marker is gone and made anew in the same transaction: HSET answers 2 instead of 0.
    story.master.seq = 1
    executed = wire.join_array([wire.OK, wire.encode_integer(2)])
    assert story.answer(wire.OK + wire.QUEUED * 2 + executed + wire.OK + story.master.marker()) is None
    assert story.replies == {1: wire.OK}
    story.accept("RPUSH a 1")
    assert story.pump() == ["RPUSH a 1"]


def test_batch_gets_its_replies_one_after_another(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.accept("SET b 2", "RPUSH a 3", "RPUSH b 4", form=Form.BATCH)
    assert story.pump() == ["RPUSH a 1", "SET b 2", "RPUSH a 3", "RPUSH b 4"]
    story.applied(b":1\r\n", wire.OK, b":2\r\n", WRONGTYPE)
    assert story.replies == {1: b":1\r\n", 2: b"+OK\r\n:2\r\n" + WRONGTYPE}


@pytest.mark.parametrize("value", [b"$3\r\nabc\r\n", b"*-1\r\n", b"$-1\r\n", b"-ERR costs $ or *\r\n"])
def test_replies_that_are_no_lines_are_cut_where_they_end(story: Story, value: bytes) -> None:
    story.accept("RPUSH a 1")
    story.accept("GETSET b 2", "RPUSH a 3", form=Form.BATCH)
    story.pump()
    story.applied(b":1\r\n", value, b":2\r\n")
    assert story.replies == {1: b":1\r\n", 2: value + b":2\r\n"}


def test_value_that_looks_like_the_end_of_the_answer_does_not_fool_the_link(story: Story) -> None:
    """The bytes of a value end with all that follows a transaction, and the network cuts right behind them."""
    story.accept("GETSET b 2")
    story.pump()
    story.master.seq = 1
    fake = b":0\r\n" + wire.OK + story.master.marker()
    value = wire.encode_bulk(b":7\r\n" + fake)
    story.answer(wire.OK + wire.QUEUED * 2 + b"*2\r\n" + value[:-2])
    assert story.replies == {}
    story.answer(value[-2:] + b":0\r\n" + wire.OK + story.master.marker())
    assert story.replies == {1: value}


# --- refused for now -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        {"errors": {0: NOREPLICAS, -1: NOREPLICAS}},
        {"errors": {}, "text": f"EXECABORT Transaction discarded because of: {NOREPLICAS}"},
        {"errors": {0: "LOADING Redis is loading", -1: "LOADING Redis is loading"}},
        {"errors": {0: "MISCONF Redis is configured to save"}},
        {"errors": {}, "text": "BUSY Redis is busy running a script."},
    ],
    ids=["NOREPLICAS when queued", "NOREPLICAS at EXEC", "LOADING", "MISCONF", "BUSY at EXEC"],
)
def test_refusals_that_pass_are_waited_for(story: Story, refusal: dict[str, object]) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    assert story.aborted(**refusal) is None  # type: ignore[arg-type]
    assert story.pump() == [], "not before the pause is over"
    story.now += 0.06
    assert story.pump() == ["RPUSH a 1"]
    assert story.replies == {}
    story.applied()
    assert story.replies == {1: b":1\r\n"}


@pytest.mark.parametrize(
    "refusal",
    [
        {"errors": {0: "READONLY You can't write", -1: "READONLY You can't write"}},
        {"errors": {}, "text": "EXECABORT Transaction discarded because of: READONLY You can't write"},
        {"errors": {0: "MASTERDOWN Link with MASTER is down"}},
    ],
    ids=["READONLY when queued", "READONLY at EXEC", "MASTERDOWN"],
)
def test_demoted_master_is_left_and_the_entry_goes_to_the_next(story: Story, refusal: dict[str, object]) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    decision = story.aborted(**refusal)  # type: ignore[arg-type]
    assert isinstance(decision, Reconnect)
    assert decision.rediscover
    assert story.replies == {}
    story.lose()
    story.connect(Master("run2", "history2", owner="mine:1:1", seq=0))
    assert story.pump() == ["RPUSH a 1"]
    story.applied()
    assert story.replies == {1: b":1\r\n"}


def test_fence_also_guards_the_attempt_after_a_refusal(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    refused = wire.encode_error(NOREPLICAS) * 2 + wire.encode_error(ABORTED)
    decision = story.answer(wire.OK + refused + wire.OK + Master(owner="mine:1:9", seq=0).marker())
    assert isinstance(decision, Reconnect)


def test_no_memory_for_the_marker_holds_everything(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    assert story.aborted({0: OOM, -1: OOM}) is None
    story.now += 0.5
    assert story.pump() == []
    story.now += 0.6
    assert story.pump() == ["RPUSH a 1"]
    assert story.replies == {}
    assert story.link.last_refusal == OOM
    story.applied()
    assert story.replies == {1: b":1\r\n"}


@pytest.mark.parametrize("oom", [{1: OOM}, {0: OOM, 1: OOM}], ids=["one", "all but the marker"])
def test_no_memory_for_a_client_holds_everything_where_the_user_wants_that(oom: dict[int, str]) -> None:
    story = Story(on_oom=OnOom.HOLD)
    story.connect()
    story.accept("RPUSH a 1")
    story.accept("RPUSH a 2")
    story.pump()
    assert story.aborted(oom) is None
    assert story.replies == {}
    assert story.link.refused_since == story.now
    story.now += 0.5
    story.accept("RPUSH a 3")
    assert story.pump() == []
    story.now += 0.6
    assert story.pump() == ["RPUSH a 1", "RPUSH a 2", "RPUSH a 3"]
    assert story.link.last_refusal == OOM
    story.applied(b":1\r\n", b":2\r\n", b":3\r\n")
    assert story.replies == {1: b":1\r\n", 2: b":2\r\n", 3: b":3\r\n"}
    assert story.link.refused_since is None
    assert story.link.counters.refused == 0


def test_no_memory_for_a_client_is_told_like_any_error_unless_the_user_wants_otherwise(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.accept("RPUSH a 2")
    story.pump()
    assert story.aborted({1: OOM}) is None
    assert story.replies == {2: wire.encode_error(OOM)}
    assert story.pump() == ["RPUSH a 1"]


def test_no_right_to_the_marker_holds_everything(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    assert story.aborted({-1: "NOPERM this user has no permissions to access one of the keys"}) is None
    story.now += 1.1
    assert story.pump() == ["RPUSH a 1"]
    assert story.replies == {}


# --- refused for good ------------------------------------------------------------------------------------------------


def test_only_the_refused_entry_is_refused(story: Story) -> None:
    for value in (1, 2, 3):
        story.accept(f"RPUSH a {value}")
    story.pump()
    assert story.aborted({1: NOPERM}) is None
    assert story.replies == {2: b"-" + NOPERM.encode() + b"\r\n"}
    assert story.pump() == ["RPUSH a 1", "RPUSH a 3"]
    story.applied(b":1\r\n", b":2\r\n")
    assert story.replies[1] == b":1\r\n"
    assert story.replies[3] == b":2\r\n"
    assert ("void", 2) in story.log.records
    assert story.master.seq == 3


def test_one_refused_command_refuses_its_whole_transaction(story: Story) -> None:
    story.accept("SET a 1", "NONSENSE", "ALSO")
    story.accept("RPUSH a 1")
    story.pump()
    story.aborted({1: "ERR unknown command 'NONSENSE'", 2: "ERR unknown command 'ALSO'"})
    assert list(story.replies) == [1]
    assert story.replies[1].startswith(b"-EXECABORT Transaction discarded because of previous errors: ERR unknown")
    assert story.pump() == ["RPUSH a 1"]


def test_only_the_refused_commands_of_a_batch_are_refused(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.accept("RPUSH b 1", "NO 1", "RPUSH b 2", "NO 2", "RPUSH b 3", form=Form.BATCH)
    story.pump()
    story.aborted({2: NOPERM, 4: NOPERM})
    assert story.pump() == ["RPUSH a 1", "RPUSH b 1", "RPUSH b 2", "RPUSH b 3"]
    assert ("replaced", 2) in story.log.records
    story.aborted({1: NOPERM})
    assert story.pump() == ["RPUSH a 1", "RPUSH b 2", "RPUSH b 3"]
    story.applied(b":1\r\n", b":2\r\n", b":3\r\n")
    refused = wire.encode_error(NOPERM)
    assert story.replies == {1: b":1\r\n", 2: refused + refused + b":2\r\n" + refused + b":3\r\n"}


def test_batch_of_refused_commands_alone_is_void(story: Story) -> None:
    story.accept("NO 1", "NO 2", form=Form.BATCH)
    story.pump()
    story.aborted({0: NOPERM, 1: NOPERM})
    assert story.replies == {1: wire.encode_error(NOPERM) * 2}
    assert ("void", 1) in story.log.records
    assert story.pump() == []


def test_transaction_of_refused_entries_alone_still_moves_the_marker(story: Story) -> None:
    story.accept("NONSENSE")
    story.pump()
    story.aborted({0: "ERR unknown command 'NONSENSE'"})
    assert story.pump() == []
    assert story.group[1].endswith("s 1")
    assert story.applied() is None
    assert (story.master.seq, story.link.unfinished, story.link.caught_up) == (1, 0, True)
    assert story.link.trim(1, story.now) == 1


def test_refused_replay_halts(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    story.applied()
    story.lose()
    assert story.connect(Master("run2", "history2", owner="mine:1:1", seq=0)) == Ready(0, 1)
    assert story.pump() == ["RPUSH a 1"]
    decision = story.aborted({0: NOPERM})
    assert isinstance(decision, Halt)
    assert "entry 1, which a client was told is done" in decision.reason
    assert story.link.phase is Phase.HALTED
    story.lose()
    assert story.link.phase is Phase.HALTED
    assert story.pump() == []


def test_replay_waits_for_memory(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    story.applied()
    story.lose()
    story.connect(Master("run2", "history2", owner="mine:1:1", seq=0))
    story.pump()
    assert story.aborted({0: OOM, -1: OOM}) is None
    story.now += 1.1
    assert story.pump() == ["RPUSH a 1"]


# --- failover --------------------------------------------------------------------------------------------------------


def test_replay_sends_what_the_new_master_lacks_and_answers_nobody_twice(story: Story) -> None:
    for value in (1, 2, 3):
        story.accept(f"RPUSH a {value}")
        story.pump()
        story.applied()
    story.lose()
    story.accept("RPUSH a 4")
    assert story.connect(Master("run2", "history2", owner="mine:1:1", seq=1)) == Ready(1, 2)
    assert not story.link.caught_up, "a read would not see 2 and 3"
    assert story.pump() == ["RPUSH a 2", "RPUSH a 3", "RPUSH a 4"]
    story.applied(b":2\r\n", b":3\r\n", b":4\r\n")
    assert story.replies[4] == b":4\r\n"
    assert story.link.caught_up
    assert story.link.counters.replayed == 2


def test_answer_lost_though_applied(story: Story) -> None:
    story.accept("SET a 1")
    story.accept("RPUSH b 1")
    story.accept("SET c 1", "SET d 1")
    story.pump()
    story.lose()
    story.accept("RPUSH b 2")
    assert story.replies == {}
    assert story.connect(Master("run1", "history1", owner="mine:1:1", seq=3)) == Ready(3, 0)
    assert story.replies == {1: wire.OK, 2: LOST_REPLY, 3: b"*2\r\n+OK\r\n+OK\r\n"}
    assert story.pump() == ["RPUSH b 2"]
    assert story.link.counters.lost_replies == 3


def test_answer_lost_and_not_applied(story: Story) -> None:
    story.accept("SET a 1")
    story.pump()
    story.lose()
    assert story.connect(Master("run1", "history1", owner="mine:1:1", seq=0)) == Ready(0, 0)
    assert story.replies == {}
    assert story.pump() == ["SET a 1"]


def test_answer_of_exec_arrived_and_the_rest_did_not(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    story.answer(wire.OK + wire.QUEUED * 2 + b"*2\r\n:1\r\n:0\r\n")
    assert story.replies == {1: b":1\r\n"}
    story.lose()
    assert story.connect(Master("run1", "history1", owner="mine:1:1", seq=1)) == Ready(1, 0)
    assert story.pump() == []


def test_client_that_writes_as_soon_as_it_has_its_lost_answer(story: Story) -> None:
    seq = story.accept("RPUSH a 1")
    entry = story.link.journal.entry(seq)
    told = entry.sink

    def sink(reply: bytes) -> None:
        assert told is not None
        told(reply)
        story.accept("RPUSH a 2")

    entry.sink = sink
    story.pump()
    story.lose()
    story.connect(Master("run1", "history1", owner="mine:1:1", seq=1))
    assert story.pump() == ["RPUSH a 2"]


def test_fenced_transaction_is_sent_again_if_the_marker_says_so(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    decision = story.answer(wire.OK + wire.QUEUED * 2 + wire.NIL_ARRAY)
    assert isinstance(decision, Reconnect)
    assert story.link.counters.fenced == 1
    story.lose()
    story.connect(Master("run1", "history1", owner="mine:1:1", seq=0))
    assert story.pump() == ["RPUSH a 1"]


def test_marker_changed_behind_an_applied_transaction(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    executed = b"*2\r\n:1\r\n:0\r\n"
    foreign = Master(owner="other:1:1", seq=1).marker()
    decision = story.answer(wire.OK + wire.QUEUED * 2 + executed + wire.OK + foreign)
    assert isinstance(decision, Reconnect)
    assert story.replies == {1: b":1\r\n"}


def test_error_of_watch_is_not_overlooked(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    decision = story.answer(wire.OK + wire.QUEUED * 2 + b"*2\r\n:1\r\n:0\r\n" + wire.encode_error("NOPERM watch"))
    assert isinstance(decision, Reconnect)
    assert story.replies == {1: b":1\r\n"}


# --- the marker's surprises ------------------------------------------------------------------------------------------


def halted(story: Story, master: Master) -> str:
    _, decision = story.identify(master)
    assert isinstance(decision, Halt)
    assert story.link.phase is Phase.HALTED
    assert story.link.halt_reason == decision.reason
    return decision.reason


def test_foreign_owner_halts(story: Story) -> None:
    story.lose()
    assert "another link" in halted(story, Master(owner="other:1:1", seq=4))


def look_again(story: Story, master: Master, idle: int) -> tuple[bytes, Decision | None]:
    """Look at another journal's marker, and once more 4 s later, when nobody has used it for ``idle`` seconds."""
    answer, decision = story.identify(master)
    assert answer == b""
    assert isinstance(decision, Reconnect)
    assert decision.delay == 4.0
    # It connects anew, which takes a moment.
    story.now += decision.delay + 0.003
    asked = words(story.link.connected(story.now))
    assert asked[0] == f"OBJECT IDLETIME {MARKER}"
    return story.receive(wire.encode_integer(idle) + master.identity())


def test_new_journal_takes_nothing_from_a_link_that_runs() -> None:
    story = Story()
    answer, decision = look_again(story, Master(owner="other:1:1", seq=8, keys=4), idle=1)
    assert answer == b""
    assert isinstance(decision, Halt)
    assert decision.cause is Cause.FOREIGN


@pytest.mark.parametrize("idle", [3, 4])
def test_new_journal_adopts_what_it_finds_and_remembers_it(idle: int) -> None:
    story = Story()
    master = Master(owner="other:1:1", seq=8, keys=4)
    answer, decision = look_again(story, master, idle)
    assert decision is None
    ready = story.take_over(answer)
    assert (ready.marker, ready.replay) == (0, 0)
    assert "another journal" in ready.warning
    assert (story.state.adopted_owner, story.state.adopted_seq) == ("other:1:1", 8)
    story.accept("RPUSH a 1")
    story.pump()
    story.applied()
    story.lose()
    # A replica that never got this link's first transaction.
    ready = story.connect(Master("run2", "history2", owner="other:1:1", seq=8, keys=4))
    assert (ready.marker, ready.replay) == (0, 1)
    assert story.pump() == ["RPUSH a 1"]


def test_marker_deleted_on_the_same_master_is_written_again_and_nothing_replayed(story: Story) -> None:
    for value in (1, 2):
        story.accept(f"RPUSH a {value}")
        story.pump()
        story.applied()
    story.lose()
    ready = story.connect(Master(keys=1))
    assert (ready.marker, ready.replay) == (2, 0)
    assert "written again" in ready.warning
    assert story.master.seq == 2
    assert story.link.counters.markers_restored == 1
    assert story.pump() == []


def test_marker_deleted_while_a_transaction_was_on_its_way_halts(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    story.lose()
    assert "cannot be told" in halted(story, Master(keys=1))


def test_marker_missing_on_another_master_halts(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    story.applied()
    story.lose()
    assert "missing on a data set with 3 keys" in halted(story, Master("run2", "history2", keys=3))


def test_empty_master_gets_everything(story: Story) -> None:
    for value in (1, 2):
        story.accept(f"RPUSH a {value}")
        story.pump()
        story.applied()
    story.lose()
    ready = story.connect(Master("run2", "history2"))
    assert (ready.marker, ready.replay) == (0, 2)
    assert story.pump() == ["RPUSH a 1", "RPUSH a 2"]


def test_data_set_older_than_the_journal_halts(story: Story) -> None:
    for value in (1, 2, 3):
        story.accept(f"RPUSH a {value}")
        story.pump()
        story.applied()
    story.link.trim(2, story.now)
    story.lose()
    assert "1 entries are lost" in halted(story, Master("run2", "history2", owner="mine:1:1", seq=1))


def _journal(last: int) -> Journal:
    journal = Journal()
    for seq in range(1, last + 1):
        payload = wire.encode_command(b"RPUSH", b"a", seq)
        journal.append(Entry(seq, 0, 0, Form.SINGLE, 1, payload, acknowledged=True))
    return journal


def test_journal_that_lost_its_tail_numbers_on_behind_the_data_set() -> None:
    story = Story(_journal(3), LinkState("mine", 2, contacted=True))
    ready = story.connect(Master(owner="mine:1:1", seq=5, keys=1))
    assert (ready.marker, ready.replay) == (5, 0)
    assert "2 entries ahead" in ready.warning
    assert ("skip", 5) in story.log.records, "the next start must know it, too"
    assert story.accept("RPUSH a 6") == 6
    assert story.pump() == ["RPUSH a 6"]
    story.applied()
    assert story.master.seq == 6


def test_refusal_is_told_when_its_record_can_be_on_disk(story: Story) -> None:
    """A client that was told NOPERM must not find the write done after a crash of the link."""
    story.accept("RPUSH a 1")
    story.accept("RPUSH b 1", "RPUSH b 2")
    story.pump()
    replies = wire.OK + wire.encode_error(NOPERM) * 3 + wire.QUEUED + wire.encode_error(ABORTED)
    story.link.receive(replies + wire.OK + story.master.marker(), story.now)
    assert ("void", 1) in story.log.records
    assert story.replies == {}, "told before the shell could write the journal"
    story.link.deliver()
    assert story.replies[1] == wire.encode_error(NOPERM)
    assert story.replies[2].startswith(b"-EXECABORT")


def test_what_a_client_may_have_been_told_before_a_crash_is_not_dropped(story: Story) -> None:
    """Nothing on disk says that the entry was acknowledged, but it may have been."""
    kept = Journal()
    kept.take(Entry(1, 0, 0, Form.SINGLE, 1, wire.encode_command(b"RPUSH", b"a", b"1")))
    story = Story(kept, LinkState("mine", 2, contacted=True))
    story.connect(Master(owner="mine:1:1", seq=0, keys=1))
    story.pump()
    decision = story.aborted({0: NOPERM})
    assert isinstance(decision, Halt)
    assert decision.cause is Cause.REPLAY_REFUSED


def test_refused_multi_halts_because_its_commands_ran_at_once(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    refused = wire.encode_error("NOPERM this user has no permissions to run the 'multi' command")
    decision = story.answer(refused + b":1\r\n" + b":0\r\n" + wire.encode_error("ERR EXEC without MULTI"))
    assert isinstance(decision, Halt)
    assert decision.cause is Cause.PARTIAL
    assert "multi" in decision.reason
    assert story.replies == {}


def test_refused_multi_of_which_nothing_ran_is_waited_for(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    no = wire.encode_error("NOPERM this user has no permissions")
    assert story.answer(no * 3 + wire.encode_error("ERR EXEC without MULTI") + wire.OK + story.master.marker()) is None
    assert story.pump() == []
    story.now = 1.0
    assert story.pump() == ["RPUSH a 1"]


def test_refusal_of_what_an_older_connection_may_still_apply_halts(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.pump()
    story.lose()
    # Here the takeover has fenced them.
    story.connect()
    assert story.pump() == ["RPUSH a 1"]
    assert story.aborted({0: NOPERM}) is None
    assert story.replies == {1: wire.encode_error(NOPERM)}
    assert story.pump() == []
    story.applied()
    story.accept("RPUSH a 2")
    story.pump()
    story.lose()
    story.connect(Master(run_id="run2", replid="history2", owner=story.master.owner, seq=1, keys=1))
    assert story.pump() == ["RPUSH a 2"]
    decision = story.aborted({0: NOPERM})
    assert isinstance(decision, Halt)
    assert decision.cause is Cause.REPLAY_REFUSED


def test_restarted_link_replays_from_its_journal() -> None:
    story = Story(_journal(3), LinkState("mine", 2, contacted=True))
    assert not story.link.numbered
    assert story.connect(Master(owner="mine:1:1", seq=1, keys=1)) == Ready(1, 2)
    assert not story.link.caught_up
    assert story.pump() == ["RPUSH a 2", "RPUSH a 3"]
    story.applied()
    assert story.link.caught_up


# --- an idle master --------------------------------------------------------------------------------------------------


def test_idle_master_is_probed(story: Story) -> None:
    assert words(story.link.probe(7.0)) == ["ROLE"]
    assert story.link.waiting_since() == 7.0
    assert story.link.probe(8.0) == b""
    story.accept("RPUSH a 1")
    assert story.pump() == [], "the answer to ROLE comes first"
    assert story.answer(wire.join_array([wire.encode_bulk(b"master")])) is None
    assert story.link.waiting_since() is None
    assert story.pump() == ["RPUSH a 1"]


@pytest.mark.parametrize(
    ("answer", "rediscover"),
    [
        (wire.join_array([wire.encode_bulk(b"slave")]), True),
        (b"-MASTERDOWN Link with MASTER is down\r\n", True),
        (b"-LOADING Redis is loading\r\n", False),
        (b"+unexpected\r\n", True),
    ],
)
def test_probe_that_finds_no_master(story: Story, answer: bytes, rediscover: bool) -> None:
    story.link.probe(7.0)
    decision = story.answer(answer)
    assert isinstance(decision, Reconnect)
    assert decision.rediscover is rediscover


def test_busy_master_is_not_probed(story: Story) -> None:
    story.accept("RPUSH a 1")
    story.now = 3.0
    story.pump()
    assert story.link.probe(3.0) == b""
    assert story.link.waiting_since() == 3.0
    story.applied()
    story.lose()
    assert story.link.probe(9.0) == b""
    assert story.link.waiting_since() is None


def test_silence_in_the_handshake_is_counted() -> None:
    story = Story()
    story.now = 4.0
    story.link.connected(4.0)
    assert story.link.waiting_since() == 4.0


# --- trimming --------------------------------------------------------------------------------------------------------


def test_trim_keeps_what_is_young_unacknowledged_or_not_everywhere(story: Story) -> None:
    for value in (1, 2, 3, 4):
        story.now = float(value)
        story.accept(f"RPUSH a {value}")
        if value < 4:
            story.pump()
            story.applied()
    assert story.link.trim(0, 100.0) == 0
    assert story.link.trim(99, 1.0) == 1
    assert story.link.trim(2, 100.0) == 1
    assert story.link.trim(99, 100.0) == 1
    assert (story.link.journal.first_seq, story.link.journal.last_seq) == (4, 4)
    assert story.link.trim(99, 100.0) == 0, "what is not applied stays"


def test_going_on_after_a_gap_counts_what_is_lost_and_sends_the_rest() -> None:
    kept = Journal(5)
    kept.append(Entry(5, 0, 0, Form.SINGLE, 1, wire.encode_command("RPUSH", "a", "5"), acknowledged=True))
    behind = Master(owner="mine:1:1", seq=2, keys=4)
    stopped = Story(kept, LinkState("mine", 2, contacted=True))
    assert "2 entries are lost" in halted(stopped, behind)
    assert stopped.link.halt_cause is Cause.GAP
    assert stopped.link.counters.gap_lost == 0
    story = Story(kept, LinkState("mine", 3, contacted=True), on_gap=OnGap.CONTINUE)
    ready = story.connect(behind)
    assert (ready.marker, ready.replay) == (4, 1)
    assert "2 entries (3 to 4) are LOST" in ready.warning
    assert story.link.counters.gap_lost == 2
    assert story.pump() == ["RPUSH a 5"]
    # Once is enough: the next connection finds an ordinary marker.
    story.applied()
    story.lose()
    assert story.connect().warning == ""
    assert story.link.counters.gap_lost == 2
