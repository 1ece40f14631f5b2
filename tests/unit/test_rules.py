"""Every hole that loses or doubles a write, the rules that close it, and a proof that each rule is needed.

``RULES`` is the table. Each line names a hole, a rule, a scenario and the smallest change that takes the rule out of
the link. The scenario has to pass with the link as it is, and to fail, by an assertion, without the rule: a rule that
somebody removes, or a scenario that does not look any more, fails a test here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from trader_node.link import commands, entries, errors, identity, journal_file, sequencer, session, state, wire
from trader_node.link.commands import Kind
from trader_node.link.group import Group
from trader_node.link.marker import Commit, History, MarkerCommands, TakeOver
from trader_node.link.random_pops import RandomPop
from trader_node.link.replicas import ReplicaMarkers
from trader_node.link.scripts import ScriptMode
from trader_node.link.sequencer import Phase, Sequencer
from trader_node.link.session import Session
from trader_node.link.upstream import Upstream
from trader_node.link.wire import ReplyFramer

from . import rule_mutants as out
from . import rule_scenarios as story
from . import test_holes, test_journal_file, test_marker, test_random_pops, test_sequencer, test_session
from .rules import Rule, both, every, of, play, put, wrap
from .test_sequencer import NOPERM

# --- the table -------------------------------------------------------------------------------------------------------

FENCE = "bytes that waited at a frozen master"
DELETED = "marker deleted or evicted on the same master"
FLUSH = "FLUSHALL by a client"
TWO_LINKS = "two links of one id"
BACK = "master back in time, lagging replica, two failovers"
TRIM = "entries forgotten too early"
IN_EXEC = "error inside EXEC"
ABORT = "EXEC aborted"
LOST_ANSWER = "answer lost though applied"
GONE = "client gone"
RELATIVE_TIME = "commands that depend on time, chance or the machine"
SCRIPTS = "scripts and functions"
DATABASES = "several databases"
CHUNKS = "chunk boundaries"
ORDER = "one order, journal first"
HOLES = [
    FENCE,
    DELETED,
    FLUSH,
    TWO_LINKS,
    BACK,
    TRIM,
    IN_EXEC,
    ABORT,
    LOST_ANSWER,
    GONE,
    RELATIVE_TIME,
    SCRIPTS,
    DATABASES,
    CHUNKS,
    ORDER,
]

on = test_sequencer
MOMENTS = ["LOADING", "BUSY", "NOREPLICAS", "MISCONF"]
ROLES = ["READONLY", "MASTERDOWN"]
ALONE = ["ERR wrong number of arguments for 'rpush' command", NOPERM, "ERR unknown command 'X'"]

RULES = [
    # hole, rule, scenario, what takes it out
    Rule(
        FENCE, "each transaction is WATCHed", story.frozen_master_thaws, wrap(MarkerCommands, "__init__", out.unwatched)
    ),
    Rule(
        FENCE,
        "the handshake touches the marker",
        story.old_bytes_behind_a_refusal,
        both(wrap(Sequencer, "_identified", out.without_touching), wrap(Sequencer, "_taken_over", out.believing)),
    ),
    Rule(
        FENCE,
        "the marker is read back before the next transaction",
        on.test_marker_changed_behind_an_applied_transaction,
        wrap(Sequencer, "_verified", out.verifies_nothing),
    ),
    Rule(
        FENCE,
        "also behind a transaction that was refused",
        on.test_fence_also_guards_the_attempt_after_a_refusal,
        wrap(Sequencer, "_verified", out.verifies_only_what_was_applied),
    ),
    Rule(
        FENCE,
        "a WATCH that fails ends the connection",
        on.test_error_of_watch_is_not_overlooked,
        wrap(Sequencer, "_refused_handshake", out.only_if(lambda text: "watch" not in text)),
    ),
    Rule(
        FENCE,
        "EXEC nil means that nothing was applied",
        on.test_fenced_transaction_is_sent_again_if_the_marker_says_so,
        wrap(Sequencer, "_executed", out.nil_is_applied),
    ),
    Rule(
        FENCE,
        "the owner is unique to a connection of a run",
        story.later_run_takes_over_between_exec_and_watch,
        put(sequencer, "owner_name", lambda mine, connection, nonce: f"{mine.journal_id}:1:1"),
    ),
    Rule(
        FENCE,
        "the marker that was judged is the one that is WATCHed",
        story.marker_changes_within_the_first_look,
        wrap(sequencer, "parse_identity", out.judged_before_the_watch),
    ),
    Rule(
        DELETED,
        "same process and same history: write it again, replay nothing",
        on.test_marker_deleted_on_the_same_master_is_written_again_and_nothing_replayed,
        out.decided(out.as_if_empty),
    ),
    Rule(
        DELETED,
        "with a transaction of unknown outcome: halt",
        on.test_marker_deleted_while_a_transaction_was_on_its_way_halts,
        out.in_situation(unknown_outcome=False),
    ),
    Rule(
        DELETED,
        "on another master: halt",
        on.test_marker_missing_on_another_master_halts,
        out.decided(out.as_if_here),
    ),
    Rule(
        DELETED,
        "the same process with another history is another master",
        of(test_marker.test_same_process_or_same_history_alone_proves_nothing, same=("run1", "other")),
        put(History, "__eq__", lambda one, other: other is not None and one.run_id == other.run_id),
    ),
    Rule(
        DELETED,
        "the same history in another process is another master",
        of(test_marker.test_same_process_or_same_history_alone_proves_nothing, same=("other", "history1")),
        put(History, "__eq__", lambda one, other: other is not None and one.replid == other.replid),
    ),
    Rule(
        DELETED,
        "an empty data set is replayed from the first entry",
        on.test_empty_master_gets_everything,
        out.decided(out.as_if_here),
    ),
    Rule(
        DELETED,
        "a key of another kind in its place: halt",
        test_holes.test_client_cannot_replace_the_marker,
        wrap(Sequencer, "_refused_handshake", lambda original, self, text: original(self, text.replace("WRONGT", "T"))),
    ),
    Rule(
        FLUSH,
        "the marker is set behind it, in the same EXEC, whatever HSET answers",
        on.test_flushall_of_a_client_does_not_take_the_marker_with_it,
        wrap(Group, "own_error", out.marker_is_not_new),
    ),
    Rule(
        FLUSH,
        "every transaction sets owner and number",
        story.flushall_and_then_a_failover,
        wrap(Commit, "__init__", out.number_alone),
    ),
    Rule(TWO_LINKS, "a foreign owner is fatal", on.test_foreign_owner_halts, out.decided(out.as_if_own)),
    Rule(
        TWO_LINKS,
        "a new journal watches whether the data set's link still runs",
        on.test_new_journal_takes_nothing_from_a_link_that_runs,
        out.in_situation(adopt=True),
    ),
    Rule(
        TWO_LINKS,
        "the journal is locked",
        test_journal_file.test_second_opener_is_refused,
        put(journal_file.fcntl, "flock", lambda descriptor, how: None),
    ),
    Rule(
        TWO_LINKS,
        "without a journal the id is random",
        story.second_link_without_a_journal,
        put(state.secrets, "token_hex", lambda size: "00" * size),
    ),
    Rule(
        TWO_LINKS, "a newer run is left alone", test_marker.test_newer_run_is_left_alone, out.decided(out.as_newest_run)
    ),
    Rule(
        TWO_LINKS,
        "entries of an earlier run are told from this run's",
        test_holes.test_data_set_of_a_lost_tail_is_told_from_this_runs_entries,
        put(state.LinkState, "shared_with", lambda mine, incarnation: None),
    ),
    Rule(
        TWO_LINKS,
        "a marker ahead of all that was accepted is not believed",
        test_marker.test_data_set_ahead_later_means_another_writer,
        out.in_situation(last_history=None),
    ),
    Rule(
        BACK,
        "what was acknowledged is sent again",
        on.test_replay_sends_what_the_new_master_lacks_and_answers_nobody_twice,
        out.taken_over(out.acknowledged_is_done),
    ),
    Rule(
        BACK,
        "from the first entry behind the marker",
        on.test_replay_sends_what_the_new_master_lacks_and_answers_nobody_twice,
        out.taken_over(out.skip_one),
    ),
    Rule(
        BACK,
        "and from no earlier one",
        on.test_replay_sends_what_the_new_master_lacks_and_answers_nobody_twice,
        out.taken_over(out.one_too_many),
    ),
    Rule(BACK, "a failover during replay begins anew", story.failover_during_replay, out.taken_over(out.sent_is_done)),
    Rule(BACK, "a second failover begins anew", story.two_failovers_in_a_row, out.taken_over(out.sent_is_done)),
    Rule(
        BACK,
        "reads wait until all that was acknowledged is there",
        on.test_replay_sends_what_the_new_master_lacks_and_answers_nobody_twice,
        put(Sequencer, "caught_up", property(lambda self: self.phase is Phase.READY)),
    ),
    Rule(
        BACK,
        "a data set that ends before the journal begins: halt",
        on.test_data_set_older_than_the_journal_halts,
        out.goes_on_after("gap", TakeOver(2, write_seq=True)),
    ),
    Rule(
        BACK,
        "only a master is taken over",
        on.test_replica_is_left,
        wrap(
            sequencer,
            "parse_identity",
            lambda original, *given, **named: replace(original(*given, **named), master=True),
        ),
    ),
    Rule(
        TRIM,
        "kept until all known nodes have it",
        on.test_trim_keeps_what_is_young_unacknowledged_or_not_everywhere,
        wrap(Sequencer, "trim", out.trims_without("nodes")),
    ),
    Rule(
        TRIM,
        "and until it is old enough",
        on.test_trim_keeps_what_is_young_unacknowledged_or_not_everywhere,
        wrap(Sequencer, "trim", out.trims_without("age")),
    ),
    Rule(
        TRIM,
        "nodes that are down count as they were",
        story.node_that_is_down_may_come_back_as_it_was,
        wrap(ReplicaMarkers, "held_everywhere", out.seen_by(lambda self, node: node not in self.silent)),
    ),
    Rule(
        TRIM,
        "nodes that never answered count as empty",
        story.node_that_never_answered_holds_nothing,
        wrap(ReplicaMarkers, "held_everywhere", out.seen_by(lambda self, node: node in self._history)),
    ),
    Rule(
        TRIM,
        "what a node shows counts once it is on its disk",
        story.node_shows_what_is_not_on_its_disk_yet,
        wrap(ReplicaMarkers, "_held", out.seen_last),
    ),
    Rule(
        TRIM,
        "and if it was not rolled back meanwhile",
        story.node_was_rolled_back_meanwhile,
        wrap(ReplicaMarkers, "_held", out.seen_first),
    ),
    Rule(
        TRIM,
        "a marker of another journal counts for nothing",
        story.marker_of_another_journal_counts_for_nothing,
        wrap(ReplicaMarkers, "__init__", out.names_nobody),
    ),
    Rule(
        IN_EXEC,
        "it is applied, and its reply is the error",
        on.test_error_of_a_command_that_ran_is_its_reply,
        wrap(Sequencer, "_applied_group", out.error_is_not_applied),
    ),
    *(
        Rule(
            ABORT,
            f"{code}: the master is looked for",
            of(story.role_is_looked_for_elsewhere, code=code),
            put(errors, "_ROLE", errors._ROLE - {code}),
        )
        for code in ROLES
    ),
    *(
        Rule(
            ABORT,
            f"{code}: waits and tries again",
            of(story.moment_passes, code=code),
            put(errors, "_MOMENT", errors._MOMENT - {code}),
        )
        for code in MOMENTS
    ),
    *(
        Rule(
            ABORT,
            f"{error.split()[0]}: belongs to that command alone ({error.split()[1]})",
            of(story.mistake_inside_a_batch_of_two_clients, error=error),
            wrap(Group, "note_refusal", out.everybody_is_blamed),
        )
        for error in ALONE
    ),
    Rule(
        ABORT,
        "of what a client sent in one go, to the command alone",
        on.test_only_the_refused_commands_of_a_batch_are_refused,
        put(sequencer, "_concerns_a_command_of_a_batch", lambda refusal: False),
    ),
    Rule(
        ABORT,
        "what was refused is in the journal as refused",
        story.refused_and_then_a_crash,
        wrap(Sequencer, "_refuse", out.void_in_memory_only),
    ),
    Rule(
        ABORT,
        "OOM for the marker: everything waits",
        on.test_no_memory_for_the_marker_holds_everything,
        wrap(Group, "note_refusal", out.own_refusal_is_overlooked),
    ),
    Rule(
        ABORT,
        "NOPERM for the marker: everything waits",
        on.test_no_right_to_the_marker_holds_everything,
        wrap(Group, "note_refusal", out.own_refusal_is_the_first_clients),
    ),
    Rule(
        ABORT,
        "OOM at the replay of an acknowledged entry: waits",
        on.test_replay_waits_for_memory,
        wrap(Group, "note_refusal", out.memory_is_like_any_error),
    ),
    Rule(
        ABORT,
        "OOM for a client's command where the user wants it held: waits",
        of(on.test_no_memory_for_a_client_holds_everything_where_the_user_wants_that, oom={1: on.OOM}),
        wrap(Group, "note_refusal", out.memory_is_like_any_error),
    ),
    Rule(
        ABORT,
        "any other error there: halt",
        on.test_refused_replay_halts,
        wrap(Sequencer, "_aborted", out.nobody_was_told),
    ),
    Rule(
        LOST_ANSWER,
        "OK where the reply is certain",
        on.test_answer_lost_though_applied,
        put(entries, "certain_reply", lambda arguments: b""),
    ),
    Rule(
        LOST_ANSWER,
        "an error that says so where it is not",
        story.lost_answer_that_is_not_certain,
        put(entries, "certain_reply", lambda arguments: wire.OK),
    ),
    Rule(
        LOST_ANSWER,
        "and not applied: nobody is told yet",
        story.lost_answer_is_not_told_before_the_marker_was_read,
        out.taken_over(out.tells_what_was_sent),
    ),
    Rule(
        LOST_ANSWER,
        "what the marker covers is not sent again",
        on.test_answer_lost_though_applied,
        out.taken_over(out.one_too_many),
    ),
    Rule(
        LOST_ANSWER,
        "EXEC's array is enough to answer, whatever follows",
        on.test_marker_changed_behind_an_applied_transaction,
        out.applies_at_the_end,
    ),
    Rule(
        LOST_ANSWER,
        "a pipelined MULTI keeps its +OK +QUEUED",
        story.whole_transaction_whose_answer_was_lost,
        wrap(Session, "_sink", lambda original, self, count=1, prefix=b"": original(self, count)),
    ),
    Rule(
        GONE,
        "in the middle of MULTI: nothing is journalled",
        test_session.test_client_gone_in_the_middle_of_multi,
        wrap(Session, "disconnected", out.transaction_of_the_departed),
    ),
    Rule(
        GONE,
        "behind whole writes: they are accepted",
        test_session.test_client_gone_with_whole_commands_waiting,
        wrap(Session, "disconnected", out.forgets_the_departed),
    ),
    *(
        Rule(
            RELATIVE_TIME,
            f"{name} is pinned when accepted",
            of(story.pinned_when_accepted, text=text),
            out.drop_pin(name),
        )
        for name, text in story.RELATIVE.items()
    ),
    Rule(
        RELATIVE_TIME,
        "SPOP is decided before it is an entry",
        test_random_pops.test_one_member,
        wrap(session, "classify", out.chance_is_journalled),
    ),
    Rule(
        RELATIVE_TIME,
        "SPOP gives back what it has removed itself",
        test_random_pops.test_another_client_was_faster,
        wrap(
            RandomPop,
            "_done",
            lambda original, self, members, reply: original(self, members, reply.replace(b":0", b":1")),
        ),
    ),
    *(
        Rule(
            RELATIVE_TIME,
            f"{text.split()[0]} of idle messages is refused",
            of(story.refused_because_of_the_clock, text=text),
            put(commands, "_claims_all", lambda arguments: True),
        )
        for text in ("XCLAIM s g c 100 1-1", "XAUTOCLAIM s g c 100 0")
    ),
    Rule(
        RELATIVE_TIME,
        "SORT that leaves the order open is refused",
        of(story.refused_because_of_the_clock, text="SORT k BY w_* ALPHA STORE x"),
        wrap(
            commands,
            "has_option",
            lambda original, given, option, start: option != b"ALPHA" and original(given, option, start),
        ),
    ),
    Rule(
        RELATIVE_TIME,
        "what comes in one go is pinned all the same",
        every(
            *(
                of(test_session.test_whatever_comes_in_one_go_means_the_same_as_piece_by_piece, commands=given)
                for given in (["SET a 1", "SET b 2 EX 10"], ["SET a 1", "XADD s * f v"])
            )
        ),
        wrap(session, "common_kind", out.all_writes_are_plain),
    ),
    Rule(
        RELATIVE_TIME,
        "NX and XX depend on the data: no reply is made up",
        story.lost_answer_that_is_not_certain,
        wrap(entries, "certain_reply", lambda original, given: original(given[:3])),
    ),
    Rule(
        SCRIPTS,
        "refused unless the user vouches for them",
        story.scripts_are_refused,
        wrap(
            commands,
            "classify_script",
            lambda original, given, mode, store: original(given, ScriptMode.DETERMINISTIC, store),
        ),
    ),
    Rule(
        SCRIPTS,
        "EVALSHA travels with its text",
        story.scripts_travel_with_their_text,
        put(commands, "classify_script", lambda given, mode, store: commands.Verdict(Kind.WRITE, given)),
    ),
    Rule(
        SCRIPTS,
        "an unknown script is NOSCRIPT at once",
        story.unknown_script_is_asked_for,
        put(commands, "classify_script", lambda given, mode, store: commands.Verdict(Kind.WRITE, given)),
    ),
    Rule(
        DATABASES,
        "each entry is applied in its own",
        on.test_several_databases_in_one_transaction,
        wrap(sequencer, "build_group", out.select_nothing),
    ),
    Rule(
        DATABASES,
        "the marker is in database 0",
        on.test_several_databases_in_one_transaction,
        wrap(sequencer, "build_group", out.marker_anywhere),
    ),
    Rule(
        DATABASES,
        "a SELECT that fails inside EXEC: halt",
        test_holes.test_database_that_does_not_exist_is_not_written_to_another_one,
        put(Group, "own_error", lambda self, results: None),
    ),
    Rule(
        DATABASES,
        "keys of all databases count",
        test_holes.test_keys_of_other_databases_count,
        put(identity, "_INFO", wire.encode_command(b"DBSIZE") * 3),
    ),
    Rule(
        CHUNKS,
        "a tail that looks like the end is not the end",
        on.test_value_that_looks_like_the_end_of_the_answer_does_not_fool_the_link,
        wrap(ReplyFramer, "take_lines", out.fooled_by_the_tail),
    ),
    Rule(CHUNKS, "replies are framed", on.test_handshake_byte_by_byte, wrap(ReplyFramer, "next", out.chunk_is_a_reply)),
    Rule(
        ORDER,
        "one transaction in flight",
        on.test_next_transaction_waits_for_the_verified_marker,
        wrap(Sequencer, "next_group", out.two_in_flight),
    ),
    Rule(
        ORDER,
        "clients are answered when it is applied",
        on.test_answer_lost_and_not_applied,
        wrap(Sequencer, "next_group", out.tells_when_it_sends),
    ),
    Rule(
        ORDER,
        "the journal is written before anything is sent",
        story.journal_is_written_before_the_transaction_is_sent,
        wrap(
            Upstream,
            "__init__",
            lambda original, self, *given, **named: original(self, *given, **{**named, "before_send": lambda: True}),
        ),
    ),
]


def test_no_hole_is_without_a_rule() -> None:
    assert {rule.hole for rule in RULES} == set(HOLES)
    assert len({str(rule) for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rule_holds(rule: Rule, tmp_path: Path) -> None:
    play(rule.scenario, tmp_path)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_its_scenario_fails_without_it(rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule.without(monkeypatch)
    # Nothing but an assertion counts: a patch that no longer fits the link must not pass for a proof.
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        play(rule.scenario, tmp_path)
