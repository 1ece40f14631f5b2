"""A data set older than the link's journal, as after a restore: what the link makes of it (docs/backup.md)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from drills.processes import LinkProcess, Process, free_ports
from drills.waiting import wait_until

from .conftest import events, has_event, status

StartLink = Callable[..., LinkProcess]
KEY = "trader-TRADER-001:positions:P-1"
MARKER = "trader-TRADER-001.link"


class Node:
    """A Redis with an AOF, of which copies can be made and put back."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        (self.port,) = free_ports(1)
        settings = {"port": self.port, "bind": "127.0.0.1", "dir": self.data, "appendonly": "yes", "save": ""}
        arguments = [part for name, value in settings.items() for part in (f"--{name}", str(value) or "''")]
        self._process = Process(["redis-server", *arguments], folder / "log")
        self.client = Redis("127.0.0.1", self.port, socket_timeout=5, decode_responses=True, protocol=2)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process.start()
        wait_until(self.client.ping, 10, "Redis answers", 0.02)

    def kill(self) -> None:
        self._process.kill()

    def back_up(self, to: Path) -> int:
        """Copy the data of now; return the last entry in it."""
        shutil.copytree(self.data / "appendonlydir", to)
        return int(self.client.hget(MARKER, "s") or 0)

    def restore(self, backup: Path) -> None:
        """Lose the disk, and start from a copy."""
        self.kill()
        shutil.rmtree(self.data / "appendonlydir")
        shutil.copytree(backup, self.data / "appendonlydir")
        self.start()

    def held(self) -> list[str]:
        return self.client.lrange(KEY, 0, -1)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "node")
    try:
        node.start()
        yield node
    finally:
        node.kill()


def client(link: LinkProcess) -> Redis:
    return Redis("127.0.0.1", link.port, socket_timeout=30, retry=Retry(NoBackoff(), 0), protocol=2)


def append(link: LinkProcess, numbers: range) -> None:
    for number in numbers:
        client(link).rpush(KEY, number)


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.parametrize("survives", ["its journal alone", "the running link"])
def test_journal_that_reaches_back_loses_nothing(
    node: Node, start_link: StartLink, tmp_path: Path, survives: str
) -> None:
    link = start_link(node.url)
    append(link, range(50))
    marker = node.back_up(tmp_path / "backup")
    append(link, range(50, 80))
    if survives == "its journal alone":
        link.kill()
    node.restore(tmp_path / "backup")
    if survives == "its journal alone":
        assert node.held() == numbers(50), "older than what was accepted"
        link = start_link(node.url)
    # The list as its client reads it: nothing is answered before the replay.
    assert [value.decode() for value in client(link).lrange(KEY, 0, -1)] == numbers(80)
    append(link, range(80, 90))
    assert node.held() == numbers(90)
    assert (events(link, "connected")[-1]["marker"], events(link, "connected")[-1]["replay"]) == (str(marker), "30")


def forget(link: LinkProcess, node: Node) -> int:
    """Write until the journal has forgotten its beginning; return the first entry that it keeps on disk."""
    first = link.folder / "journal"
    writer = client(link)

    def segments() -> list[int]:
        return sorted(int(path.stem) for path in first.glob("*.journal"))

    def forgotten() -> bool:
        pipeline = writer.pipeline(transaction=False)
        for _ in range(16):
            pipeline.set("ballast", b"x" * (1 << 18))
        pipeline.execute()
        return segments()[0] > 1

    wait_until(forgotten, 60, "the journal forgets its first segment", 0.2)
    return segments()[0]


def with_a_gap(node: Node, start_link: StartLink, backup: Path) -> tuple[int, int]:
    """Leave a restored data set whose end is long forgotten; return its last entry and the journal's first."""
    link = start_link(node.url, LINK_JOURNAL_MAX_BYTES=str(16 << 20))
    append(link, range(5))
    marker = node.back_up(backup)
    append(link, range(5, 10))
    first = forget(link, node)
    append(link, range(10, 12))
    link.kill()
    node.restore(backup)
    return marker, first


def test_gap_stops_and_goes_on_only_when_told(node: Node, start_link: StartLink, tmp_path: Path) -> None:
    marker, first = with_a_gap(node, start_link, tmp_path / "backup")
    link = start_link(node.url)
    wait_until(lambda: has_event(link, "halted"), 20, "the link halts")
    (halted,) = events(link, "halted")
    assert halted["cause"] == "gap"
    assert f"the data set ends at entry {marker}, but the journal begins at {first}" in halted["msg"]
    assert not status(link)["healthy"]
    with pytest.raises(RedisError):
        Redis("127.0.0.1", link.port, socket_timeout=2, retry=Retry(NoBackoff(), 0)).rpush(KEY, "new")
    assert node.held() == numbers(5), "nothing was written"
    link.kill()

    link = start_link(node.url, LINK_ON_GAP="continue")
    client(link).rpush(KEY, "new")
    # What was forgotten is lost, what the journal has is there: a position's fills with a hole in them.
    assert node.held() == [*numbers(5), "10", "11", "new"]
    (warning,) = events(link, "marker_warning")
    assert f"{first - 1 - marker} entries ({marker + 1} to {first - 1}) are LOST" in warning["msg"]
    link.terminate()
    link = start_link(node.url)
    client(link).rpush(KEY, "newer")
    assert len(events(link, "halted")) == 1, "an ordinary data set again"


def test_gap_and_the_journal_moved_away_start_with_the_data_as_of_the_backup(
    node: Node, start_link: StartLink, tmp_path: Path
) -> None:
    with_a_gap(node, start_link, tmp_path / "backup")
    journal = tmp_path / "link" / "journal"
    journal.rename(tmp_path / "put-aside")
    link = start_link(node.url)
    client(link).rpush(KEY, "new")
    assert node.held() == [*numbers(5), "new"]
    assert "this journal begins on it as it is" in events(link, "marker_warning")[-1]["msg"]


def test_journal_that_began_on_the_same_backup_is_replayed_from_its_beginning(
    node: Node, start_link: StartLink, tmp_path: Path
) -> None:
    first = start_link(node.url, "first")
    append(first, range(20))
    node.back_up(tmp_path / "backup")
    append(first, range(20, 25))
    first.kill()
    node.restore(tmp_path / "backup")
    # Its journal is gone with its volume.
    second = start_link(node.url, "second")
    client(second).rpush(KEY, "after the first restore")
    second.kill()
    node.restore(tmp_path / "backup")
    second = start_link(node.url, "second")
    wait_until(lambda: len(node.held()) == 21, 20, "what came after the first restore is sent again")
    assert node.held() == [*numbers(20), "after the first restore"]
    assert not has_event(second, "halted")


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_journal_that_began_on_other_data_always_stops(
    node: Node, start_link: StartLink, tmp_path: Path, policy: str
) -> None:
    first = start_link(node.url, "first")
    append(first, range(5))
    node.back_up(tmp_path / "backup")
    first.kill()
    # Another stack of the same trader id, from nothing.
    node.kill()
    shutil.rmtree(node.data / "appendonlydir")
    node.start()
    second = start_link(node.url, "second")
    append(second, range(100, 103))
    second.kill()
    node.restore(tmp_path / "backup")
    second = start_link(node.url, "second", LINK_ON_GAP=policy)
    wait_until(lambda: has_event(second, "halted"), 20, "the link halts")
    assert events(second, "halted")[-1]["cause"] == "foreign"
    assert node.held() == numbers(5), "nothing of one is mixed into the other"


def test_journal_of_another_trader_is_not_even_opened(node: Node, start_link: StartLink, tmp_path: Path) -> None:
    first = start_link(node.url, "first", LINK_ID="TRADER-002")
    client(first).rpush("trader-TRADER-002:orders:O-1", 1)
    first.kill()
    other = start_link(node.url, "first", wait=False, LINK_ID="TRADER-001")
    wait_until(lambda: not other.running, 20, "the link ends")
    assert "belongs to the marker trader-TRADER-002.link" in other.log.read_text()
