"""Passwords from files: what counts is what the file holds at the time of a connection."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from trader_node.link import wire
from trader_node.link.access import read_target
from trader_node.link.credentials import auth, credentials


def _environment(folder: Path) -> dict[str, str]:
    (folder / "nodes").write_text("first\n")
    (folder / "sentinels").write_text("watch")
    return {
        "REDIS_URL": "sentinel://s:1/mymaster",
        "REDIS_USERNAME": "TRADER-001",
        "REDIS_PASSWORD_FILE": str(folder / "nodes"),
        "REDIS_SENTINEL_PASSWORD_FILE": str(folder / "sentinels"),
    }


def test_a_new_password_counts_from_the_next_connection_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    login = credentials(read_target(_environment(tmp_path)))
    assert auth(login) == wire.encode_command(b"AUTH", b"TRADER-001", b"first")
    (tmp_path / "nodes").write_text("second")
    assert auth(login) == wire.encode_command(b"AUTH", b"TRADER-001", b"second")
    assert login is not None
    assert login.get_credentials() == ("TRADER-001", "second")
    assert asyncio.run(login.get_credentials_async()) == ("TRADER-001", "second")
    assert not caplog.records


def test_sentinels_have_a_login_of_their_own(tmp_path: Path) -> None:
    login = credentials(read_target(_environment(tmp_path)), sentinel=True)
    assert auth(login) == wire.encode_command(b"AUTH", b"watch")
    (tmp_path / "sentinels").write_text("watch better")
    assert auth(login) == wire.encode_command(b"AUTH", b"watch better")


@pytest.mark.parametrize("text", ["", "two\nlines", None])
def test_a_file_that_cannot_be_used_leaves_the_last_password(
    text: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    login = credentials(read_target(_environment(tmp_path)))
    file = tmp_path / "nodes"
    file.write_text("second")
    auth(login)
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert auth(login) == wire.encode_command(b"AUTH", b"TRADER-001", b"second")
    assert "going on with the password as it was" in caplog.text
    assert "second" not in caplog.text


def test_without_a_file_the_password_stays() -> None:
    login = credentials(read_target({"REDIS_URL": "redis://:p@h:1/0"}))
    assert auth(login) == wire.encode_command(b"AUTH", b"p")
    assert auth(credentials(read_target({"REDIS_URL": "redis://h:1/0"}))) == b""
