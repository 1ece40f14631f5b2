"""A connection of one client's own: login, whole replies, and what follows when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from trader_node.link import wire
from trader_node.link.decisions import Decision, Reconnect
from trader_node.link.side import Receive, SideConnection

MASTER = wire.join_array([wire.encode_bulk(b"master")])
AUTH = wire.encode_command(b"AUTH", b"p")


class Connection:
    """A connection to a master that the test plays."""

    def __init__(self, receive: Receive, used: asyncio.Queue[Connection]) -> None:
        self.used = used
        self.ended: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self.receive = receive
        self.sent = b""
        self.paused = self.aborted = False

    def write(self, data: bytes) -> None:
        if not self.sent:
            self.used.put_nowait(self)
        self.sent += data

    def end(self, decision: Decision) -> None:
        if not self.ended.done():
            self.ended.set_result(decision)

    def abort(self) -> None:
        self.aborted = True

    def pause(self, paused: bool) -> None:
        self.paused = paused


class Stage:
    """Connections of one side, as they are made."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.used: asyncio.Queue[Connection] = asyncio.Queue()
        self.taken: list[bytes] = []
        self.failures = 0
        self.side = SideConnection(self._connect, lambda: AUTH, lambda: b"greeting", self.taken.append)

    async def _connect(self, receive: Receive) -> Connection | None:
        if self.failures:
            self.failures -= 1
            return None
        self.made.append(Connection(receive, self.used))
        return self.made[-1]

    async def next(self, number: int) -> Connection:
        """Return the connection with a number, once it is used."""
        connection = await asyncio.wait_for(self.used.get(), 10)
        assert self.made[number - 1 :] == [connection]
        return connection


def play(story: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        stage = Stage()
        try:
            await story(stage)
        finally:
            stage.side.close()

    asyncio.run(run())


def test_greeting_follows_the_login() -> None:
    async def story(stage: Stage) -> None:
        connection = await stage.next(1)
        assert connection.sent == AUTH + wire.encode_command(b"ROLE")
        stage.side.send(b"too early: the greeting has it")
        assert connection.receive(wire.OK + MASTER[:3]) is None
        assert connection.receive(MASTER[3:]) is None
        assert connection.sent.endswith(b"greeting")
        stage.side.send(b" more")
        assert connection.sent.endswith(b"greeting more")
        assert connection.receive(b"+a\r\n$1\r\n") is None
        assert connection.receive(b"b\r\n") is None
        assert stage.taken == [b"+a\r\n", b"$1\r\nb\r\n"]

    play(story)


def test_what_is_no_master_is_left() -> None:
    async def story(stage: Stage) -> None:
        answers = (wire.OK + wire.join_array([wire.encode_bulk(b"slave")]), b"-NOAUTH no\r\n", b"?")
        for number, answer in enumerate(answers, 1):
            connection = await stage.next(number)
            decision = connection.receive(answer + wire.CRLF * (answer == b"?"))
            assert isinstance(decision, Reconnect)
            connection.end(decision)
        await stage.next(len(answers) + 1)
        assert all(connection.aborted for connection in stage.made[:-1])
        assert stage.taken == []

    play(story)


def test_it_is_made_again() -> None:
    async def story(stage: Stage) -> None:
        stage.failures = 2
        first = await stage.next(1)
        stage.side.pause(True)
        assert first.paused
        stage.side.restart("by the client")
        second = await stage.next(2)
        assert first.aborted
        assert second.paused
        second.receive(wire.OK + MASTER)
        assert second.sent.endswith(b"greeting")

    play(story)
