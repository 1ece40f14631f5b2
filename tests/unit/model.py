"""A model of Redis for the sequencer: forks, roll-backs, lagging replicas, lost answers and bytes that run late.

Only the commands that the tests send exist. Each connection has its own queue of bytes that the node has not executed
yet, and it may execute them long after the link gave the connection up, as a frozen process does.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field

import hiredis

from trader_node.link import wire

MARKER = "marker"
WRITES = (b"RPUSH", b"HSET", b"FLUSHALL")
NOPERM = "NOPERM this user has no permissions to run the 'rpush' command"
BROKEN_REPLY = wire.encode_error("ERR unknown command")
_run_ids = itertools.count(1)
_histories = itertools.count(1)


@dataclass
class Data:
    """A data set: one list of values, and the marker."""

    values: list[int] = field(default_factory=list)
    marker: dict[bytes, bytes] = field(default_factory=dict)
    #: What the marker said last, also when it is gone: for the test, the link cannot see it.
    owner: bytes = b""
    seq: int = 0


class Node:
    """One Redis process, and what its disk holds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.data = Data()
        self.run_id = f"run{next(_run_ids)}"
        self.replid = "history0"
        self.master = False
        self.refuse = ""
        #: Commands that the link's user has no right to.
        self.forbidden: set[bytes] = set()
        #: Older states of this node that may be on its disk, with their times, oldest first.
        self.snapshots: list[tuple[float, Data]] = [(0.0, Data())]
        self.connections: list[Connection] = []

    def snapshot(self) -> Data:
        """Return a copy of the data set."""
        return copy.deepcopy(self.data)

    def save(self, now: float, age: float) -> None:
        """Keep the state of this moment, and forget those that a crash cannot bring back any more."""
        self.snapshots.append((now, self.snapshot()))
        while self.snapshots[1][0] <= now - age:
            del self.snapshots[0]

    def touch_marker(self) -> None:
        """Break the WATCH of every connection."""
        for connection in self.connections:
            connection.watch_broken = connection.watching

    def delete_marker(self) -> None:
        """Lose the marker to somebody's DEL, or to eviction."""
        self.data.marker = {}
        self.touch_marker()

    def begin_history(self) -> None:
        """Take a new replication id, as Redis does at each promotion."""
        self.replid = f"history{next(_histories)}"

    def restart(self, data: Data) -> None:
        """Come back as another process with the given data; all connections and their bytes are gone."""
        self.data = copy.deepcopy(data)
        self.run_id = f"run{next(_run_ids)}"
        self.begin_history()
        for connection in self.connections:
            connection.open = False
        self.connections = []


class Connection:
    """A connection to a node, with bytes under way in both directions."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.open = True
        self.watching = False
        self.watch_broken = False
        self._under_way = b""
        self._to_execute: list[list[bytes]] = []
        self._answers = b""
        self._queued: list[list[bytes]] | None = None
        self._queue_error = False
        self._reader = hiredis.Reader()
        node.connections.append(self)

    def send(self, data: bytes) -> None:
        """Send bytes that the node has not looked at yet."""
        self._under_way += data

    def execute(self, count: int, late: int = 0) -> bool:
        """Let the node execute the next commands, of those that have arrived; tell if there were any.

        ``late`` bytes of what was sent last have not arrived. What was sent to a process that is gone is gone with it.
        """
        arrived = max(len(self._under_way) - late, 0)
        self._reader.feed(self._under_way[:arrived])
        self._under_way = self._under_way[arrived:]
        while (command := self._reader.gets()) is not False:
            self._to_execute.append(command)
        if not self.open or not self._to_execute:
            return False
        now, self._to_execute = self._to_execute[:count], self._to_execute[count:]
        self._answers += b"".join([self._one(command) for command in now])
        return True

    def take(self, late: int = 0) -> bytes:
        """Return the bytes that have come back; ``late`` of them are still under way."""
        come = max(len(self._answers) - late, 0)
        data, self._answers = self._answers[:come], self._answers[come:]
        return data

    def _one(self, command: list[bytes]) -> bytes:
        name = command[0]
        if name == b"MULTI":
            self._queued, self._queue_error = [], False
            return wire.OK
        if name == b"EXEC":
            return self._exec()
        if self._queued is not None:
            if name in WRITES and (not self.node.master or self.node.refuse):
                self._queue_error = True
                return wire.encode_error(self.node.refuse or "READONLY You can't write against a read only replica.")
            if name in self.node.forbidden:
                self._queue_error = True
                return wire.encode_error(NOPERM)
            if name == b"BROKEN":
                self._queue_error = True
                return BROKEN_REPLY
            self._queued.append(command)
            return wire.QUEUED
        return self._run(command)

    def _exec(self) -> bytes:
        queued, self._queued = self._queued or [], None
        watching, broken = self.watching, self.watch_broken
        self.watching = self.watch_broken = False
        if self._queue_error:
            return wire.encode_error("EXECABORT Transaction discarded because of previous errors.")
        if watching and broken:
            return wire.NIL_ARRAY
        return wire.join_array([self._run(command) for command in queued])

    def _run(self, command: list[bytes]) -> bytes:
        node, name, arguments = self.node, command[0], command[1:]
        match name:
            case b"WATCH":
                self.watching = True
                return wire.OK
            case b"ROLE":
                return wire.join_array([wire.encode_bulk(b"master" if node.master else b"slave")])
            case b"INFO":
                if arguments == [b"keyspace"]:
                    keys = bool(node.data.values) + bool(node.data.marker)
                    return wire.encode_bulk(b"db0:keys=%d,expires=0\r\n" % keys if keys else b"")
                field_name = b"run_id" if arguments == [b"server"] else b"master_replid"
                value = node.run_id if arguments == [b"server"] else node.replid
                return wire.encode_bulk(b"%b:%b\r\n" % (field_name, value.encode()))
            case b"CONFIG":
                return wire.join_array([wire.encode_bulk(b"databases"), wire.encode_bulk(b"16")])
            case b"PING":
                return wire.PONG
            case b"HMGET":
                values = [node.data.marker.get(argument) for argument in arguments[1:]]
                return wire.join_array([b"$-1\r\n" if value is None else wire.encode_bulk(value) for value in values])
            case b"HSET":
                fields = dict(zip(arguments[1::2], arguments[2::2], strict=True))
                new = len(fields.keys() - node.data.marker.keys())
                node.data.marker |= fields
                node.data.owner = fields.get(b"o", node.data.owner)
                node.data.seq = int(fields.get(b"s", node.data.seq))
                node.touch_marker()
                return wire.encode_integer(new)
            case b"RPUSH":
                node.data.values.append(int(arguments[1]))
                return wire.encode_integer(len(node.data.values))
            case b"LRANGE":
                return wire.join_array([wire.encode_bulk(b"%d" % value) for value in node.data.values])
            case b"FLUSHALL":
                node.data.values, node.data.marker = [], {}
                node.touch_marker()
                return wire.OK
            case _:
                raise AssertionError(f"the model does not know {name!r}")
