"""The ACL files of nodes and Sentinels, as text."""

from __future__ import annotations

import hashlib
import io

import pytest

from trader_node import acl

USERS = ("admin", "health", "replica", "sentinel", "metrics", "TRADER-001", "TRADER-002")
HASHES = {user: [hashlib.sha256(user.encode()).hexdigest()] for user in USERS}
TRADERS = ("TRADER-001", "TRADER-002")


@pytest.mark.parametrize(
    ("server", "expected"),
    [("nodes", {"default", *USERS}), ("sentinels", {"default", *USERS} - {"replica"})],
)
def test_everybody_has_a_password_and_default_is_off(server: str, expected: set[str]) -> None:
    lines = acl.acl_file(server, TRADERS, HASHES).splitlines()
    assert {line.split()[1] for line in lines} == expected
    assert lines[0].startswith("user default off resetpass ")
    for line in lines[1:]:
        assert f" on #{HASHES[line.split()[1]][0]} " in line
        assert "nopass" not in line
        assert ">" not in line


def test_a_trader_has_its_own_keys_alone() -> None:
    lines = acl.acl_file("nodes", TRADERS, HASHES).splitlines()
    keys = {line.split()[1]: [word for word in line.split() if word[0] == "~"] for line in lines}
    assert keys["TRADER-002"] == ["~trader-TRADER-002:*", "~trader-TRADER-002.link"]
    assert [user for user, patterns in keys.items() if "~*" in patterns] == ["default", "admin"]


@pytest.mark.parametrize("server", acl.SERVERS)
def test_nobody_but_admin_may_wipe_reconfigure_or_read_the_configuration(server: str) -> None:
    for line in acl.acl_file(server, TRADERS, HASHES).splitlines()[1:]:
        words = line.split()
        if words[1] == "admin":
            continue
        granted = {word for word in words if word[0] == "+"}
        assert "-@all" in words
        assert not {word for word in granted if word.startswith(("+@", "+flush", "+acl", "+eval", "+debug", "+keys"))}
        assert {word for word in granted if word.startswith("+config")} <= {"+config|rewrite"}
        assert not granted & {"+sentinel|set", "+sentinel|config", "+sentinel|debug", "+sentinel|failover"}


def test_two_passwords_at_once() -> None:
    hashes = HASHES | {"TRADER-001": ["a" * 64, "b" * 64]}
    assert f"user TRADER-001 on #{'a' * 64} #{'b' * 64} " in acl.acl_file("sentinels", TRADERS, hashes)


@pytest.mark.parametrize(
    ("traders", "given", "says"),
    [
        (["TRADER"], "", "'TRADER' is not a trader id"),
        (["T-*"], "", "'T-*' is not a trader id"),
        (["T-1", "T-1"], "", "'T-1' is there twice"),
        ([], "admin", "user 'admin' has no password"),
        ([], "nobody " + "a" * 64, "user 'nobody' is none of the stack's"),
        ([], "admin s3cret", "behind user 'admin' is not a SHA-256 in hex"),
        ([], f"admin {'a' * 64}\nadmin {'a' * 64}", "user 'admin' is there twice"),
    ],
)
def test_a_mistake_is_one_line(
    traders: list[str], given: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    arguments = [word for trader in traders for word in ("--trader", trader)]
    assert acl.main(["nodes", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert "s3cret" not in err


def test_the_command_writes_the_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(f"{user} {' '.join(digests)}\n" for user, digests in HASHES.items())
    monkeypatch.setattr("sys.stdin", io.StringIO(text + "\n"))
    assert acl.main(["sentinels", "--trader", TRADERS[0], "--trader", TRADERS[1]]) == 0
    assert capsys.readouterr().out == acl.acl_file("sentinels", TRADERS, HASHES)
