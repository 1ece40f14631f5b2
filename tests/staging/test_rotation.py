"""New passwords and certificates on a running stack, while it trades."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from drills.runner import identity
from drills.stack import NODES, SENTINELS, Stack
from drills.waiting import wait_until
from tests.stack.checks import check_nothing_lost, new_orders
from tests.stacks import run_script

SERVERS = (*NODES, *SENTINELS)
#: Seconds without a working master that a change may cost in all; it is expected to cost none.
HOLD_LIMIT = 1.0


@contextlib.contextmanager
def trading_goes_on(stack: Stack, *restarted: str) -> Iterator[None]:
    """Nothing is lost meanwhile, the link hardly waits, and no container but ``restarted`` is started again."""
    known, process, before, started = stack.report(), identity(stack), stack.link(), stack.start_times()
    yield
    stack.wait_for_writes()
    after = stack.link()
    assert after["state"] == "ready", after["reason"]
    held = after["hold_seconds"] - before["hold_seconds"]
    print(f"held for {held:.2f} s, {after['handshakes'] - before['handshakes']} handshakes")
    assert held < HOLD_LIMIT, "the link waited for a master"
    assert after["master_changes"] == before["master_changes"]
    assert identity(stack) == process, "the node was restarted"
    again = {service for service, at in stack.start_times().items() if at != started[service]}
    assert again == set(restarted), "containers were started again"
    assert new_orders(stack, known), "the node made no order meanwhile"
    print(check_nothing_lost(stack, known))


def _servers_of(user: str) -> tuple[str, ...]:
    return NODES if user == "replica" else SERVERS


def _lets_in(stack: Stack, server: str, user: str, password: str) -> bool:
    client = stack.client(server)
    try:
        client.execute_command("AUTH", user, password)
    except AuthenticationError:
        return False
    finally:
        client.close()
    return True


def _passwords(folder: Path) -> dict[str, str]:
    return {path.name.removeprefix("trader-"): path.read_text() for path in (folder / "passwords").iterdir()}


def _exporters(stack: Stack, mounted: str) -> list[str]:
    """The exporters that have something mounted there: they read it at their start."""
    return [
        service
        for service, container in stack.containers().items()
        if "exporter" in service and mounted in {mount["Destination"] for mount in container["Mounts"]}
    ]


# About half a minute, but a machine that does other things as well takes its time for a hundred short commands.
@pytest.mark.timeout(300)
def test_all_passwords_are_rotated_while_the_node_trades(
    stack: Stack, environment: dict[str, str], secrets_dir: Path
) -> None:
    old = _passwords(secrets_dir)
    inodes = {path.name: path.stat().st_ino for path in (secrets_dir / "passwords").iterdir()}
    with trading_goes_on(stack, *_exporters(stack, "/run/secrets/metrics")):
        said = run_script(environment, "secrets", "rotate", "all")
        print(said)
    new = _passwords(secrets_dir)
    assert new.keys() == old.keys()
    assert {path.name: path.stat().st_ino for path in (secrets_dir / "passwords").iterdir()} == inodes
    for user in new:
        assert new[user] != old[user]
        assert new[user] not in said
        assert old[user] not in said
        for server in _servers_of(user):
            assert _lets_in(stack, server, user, new[user]), f"{server} does not know the new password of {user}"
            assert not _lets_in(stack, server, user, old[user]), f"{server} still knows the old password of {user}"
    # What a start reads says the same.
    for file in (secrets_dir / "acl").iterdir():
        text = file.read_text()
        assert not [user for user in old if hashlib.sha256(old[user].encode()).hexdigest() in text]
    assert not list((secrets_dir / "rotation").iterdir()), "a password is kept that nobody needs"
    _break_connections(stack)


def _break_connections(stack: Stack) -> None:
    """End every connection of those who stay logged in for weeks; nobody may be refused when it comes back."""
    known, before = stack.report(), stack.link()
    for server in SERVERS:
        stack.client(server).acl_log_reset()
        for user in ("replica", "sentinel", stack.trader_id):
            if server in _servers_of(user):
                stack.client(server).execute_command("CLIENT", "KILL", "USER", user)
    wait_until(lambda: stack.link()["handshakes"] > before["handshakes"], 20, "the link connects again")
    stack.wait_for_writes()
    stack.wait_until_well(30)
    for sentinel in SENTINELS:
        reachable = stack.client(sentinel).execute_command("SENTINEL", "CKQUORUM", "mymaster")
        assert str(reachable).startswith("OK 3 usable"), reachable
    for server in SERVERS:
        refused = [entry for entry in stack.client(server).acl_log() if entry["reason"] == "auth"]
        assert not refused, f"{server} refused a login: {refused[0]}"
    print(check_nothing_lost(stack, known))


def test_nothing_changes_while_a_server_is_down(stack: Stack, environment: dict[str, str], secrets_dir: Path) -> None:
    before = {path: path.read_bytes() for path in secrets_dir.rglob("*") if path.is_file()}
    stack.kill("sentinel-3")
    try:
        for arguments in (("secrets", "rotate", "all"), ("certs", "renew"), ("certs", "renew", "--ca")):
            with pytest.raises(AssertionError, match=r"error: sentinel-3 is down \(exited\)"):
                run_script(environment, *arguments)
    finally:
        stack.start("sentinel-3")
    assert {path: path.read_bytes() for path in before} == before
    assert not list((secrets_dir / "rotation").iterdir())


# --- certificates ----------------------------------------------------------------------------------------------------


def _context(secrets_dir: Path) -> ssl.SSLContext:
    folder = secrets_dir / "tls/admin"
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


def _presented(stack: Stack, server: str, context: ssl.SSLContext) -> bytes:
    """Return the certificate that a server shows; it has to be for its address, and of an authority that is trusted."""
    address = (stack.ip(server), 6379 if server in NODES else 26379)
    with (
        socket.create_connection(address, 5) as plain,
        context.wrap_socket(plain, server_hostname=address[0]) as secured,
    ):
        shown: Any = secured.getpeercert(binary_form=True)
    return bytes(shown)


def _issued(secrets_dir: Path, server: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert((secrets_dir / "tls" / server / "tls.crt").read_text())


def test_certificates_are_renewed_while_the_node_trades(
    stack: Stack, environment: dict[str, str], secrets_dir: Path
) -> None:
    services = ("redis-1", "redis-2", "redis-3", "sentinel-2", "trader")
    before = {server: _presented(stack, server, _context(secrets_dir)) for server in SERVERS}
    with trading_goes_on(stack, "sentinel-2"):
        run_script(environment, "certs", "renew", *services)
        for server in SERVERS:
            shown = _presented(stack, server, _context(secrets_dir))
            assert shown == _issued(secrets_dir, server)
            assert (shown != before[server]) == (server in services)
        # The link shows its new one, and believes the nodes', from the next connection on.
        handshakes = stack.link()["handshakes"]
        stack.client(stack.master()).execute_command("CLIENT", "KILL", "USER", stack.trader_id)
        wait_until(lambda: stack.link()["handshakes"] > handshakes, 20, "the link connects again")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_new_authority_takes_over_while_the_node_trades(
    stack: Stack, environment: dict[str, str], secrets_dir: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(secrets_dir / "tls/admin", old)
    with trading_goes_on(stack, *SENTINELS, *_exporters(stack, "/run/tls")):
        run_script(environment, "certs", "renew", "--ca", seconds=600)
    authority = (secrets_dir / "tls/ca.crt").read_text()
    assert authority.count("BEGIN CERTIFICATE") == 1
    assert authority != (old / "ca.crt").read_text()
    for server in SERVERS:
        assert _presented(stack, server, _context(secrets_dir)) == _issued(secrets_dir, server)
        # Trusted by the one who asks, but no longer by the server.
        client = Redis(
            host=stack.ip(server),
            port=6379 if server in NODES else 26379,
            ssl=True,
            ssl_ca_certs=str(secrets_dir / "tls/ca.crt"),
            ssl_certfile=str(old / "tls.crt"),
            ssl_keyfile=str(old / "tls.key"),
            socket_timeout=5,
        )
        with pytest.raises((RedisError, OSError)) as refusal:
            client.ping()
        assert not isinstance(refusal.value, AuthenticationError), "it was let in as far as the login"
    stack.wait_until_well(30)
