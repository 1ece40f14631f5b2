"""TLS, ACL users and passwords against real servers, and the login that the link asks of its own clients."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from drills.appender import Appenders
from drills.ledger import Outcome, check
from drills.processes import Cluster, LinkProcess, Process, free_ports, freeze, thaw
from drills.security import ADMIN, DEFAULT, Account, Authority, Security
from drills.waiting import wait_until
from trader_node.link import wire
from trader_node.link.rights import node_rights, sentinel_rights

ID = "TRADER-001"
AT_NODES = Account("trader", "n0de-s3cret", node_rights(ID))
AT_SENTINELS = Account("watcher", "s3ntinel-s3cret", sentinel_rights())
CLIENT_PASSWORD = "cl1ent-s3cret"  # noqa: S105


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., tuple[int, Process]]]:
    """Start servers with options in the form of a Redis configuration; return port and process."""
    processes: list[Process] = []

    def start(*lines: str) -> tuple[int, Process]:
        (port,) = free_ports(1)
        folder = tmp_path / f"server-{port}"
        folder.mkdir()
        config = folder / "redis.conf"
        config.write_text("\n".join(["bind 127.0.0.1", f"dir {folder}", *lines]).replace("PORT", str(port)) + "\n")
        process = Process(["redis-server", str(config)], folder / "log")
        process.start()
        processes.append(process)
        wait_until(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, 20, "the server listens")
        return port, process

    yield start
    for process in processes:
        process.kill()


@pytest.fixture
def start_link(tmp_path: Path) -> Iterator[Callable[..., LinkProcess]]:
    links: list[LinkProcess] = []

    def start(url: str, **options: str) -> LinkProcess:
        link = LinkProcess(url, tmp_path / f"link-{len(links)}", options=options)
        link.start()
        links.append(link)
        return link

    yield start
    for link in links:
        link.kill()
        print(link.log.read_text()[-6000:])


def _log(link: LinkProcess) -> str:
    return link.log.read_text()


def _wait_for_log(link: LinkProcess, text: str) -> None:
    wait_until(lambda: text in _log(link), 20, f"{text!r} in the log of the link", 0.05)


def _get(link: LinkProcess, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{link.http_port}{path}", timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def _wait_until_ready(link: LinkProcess) -> None:
    wait_until(lambda: _get(link, "/status")[1]["state"] == "ready", 20, "the link applies writes", 0.05)


def _wait_for_reason(link: LinkProcess, *texts: str) -> None:
    """Wait until the health check fails and says why."""

    def told() -> bool:
        code, state = _get(link, "/healthz")
        return code == 503 and all(text in state["reason"] for text in texts)

    wait_until(told, 20, f"/healthz tells of {texts}", 0.05)


def _client(link: LinkProcess, **options: Any) -> Redis:
    return Redis(port=link.port, socket_timeout=20, decode_responses=True, protocol=2, **options)


# --- a stack that is guarded everywhere ------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path, authority: Authority) -> Iterator[Cluster]:
    """TLS with client certificates and ACL users with the least rights at nodes and Sentinels; no plain port."""
    security = Security(
        servers=authority.issue("server"),
        clients=authority.issue("tests"),
        node_users=[AT_NODES],
        sentinel_users=[AT_SENTINELS],
    )
    cluster = Cluster(tmp_path / "cluster", security=security)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _secret_file(folder: Path, account: Account) -> str:
    path = folder / account.name
    path.write_text(account.password + "\n")
    return str(path)


def _kill(cluster: Cluster, master: int) -> None:
    cluster.nodes[master].kill()
    cluster.wait_for_other_master(master)
    cluster.nodes[master].start()


def _freeze(cluster: Cluster, master: int) -> None:
    freeze(cluster.nodes[master])
    cluster.wait_for_other_master(master)
    thaw(cluster.nodes[master])


def _revoke(cluster: Cluster, master: int) -> None:
    """Remove the link's user, which ends its connections, and bring it back."""
    for port in cluster.node_ports:
        cluster.client(port).acl_deluser(AT_NODES.name)
    refused = f"{AT_NODES.name} is gone"
    wait_until(lambda: cluster.client(master).acl_log(), 20, refused, 0.05)
    for port in cluster.node_ports:
        cluster.client(port).execute_command("ACL", "LOAD")


@pytest.mark.parametrize("fault", [_kill, _freeze, _revoke], ids=["kill", "freeze", "revoked rights"])
def test_no_append_is_lost_over_tls_with_the_least_rights(
    fault: Callable[[Cluster, int], None],
    guarded: Cluster,
    authority: Authority,
    start_link: Callable[..., LinkProcess],
    tmp_path: Path,
) -> None:
    shown = authority.issue("link")
    settings = {
        "LINK_ID": ID,
        "REDIS_USERNAME": AT_NODES.name,
        "REDIS_PASSWORD_FILE": _secret_file(tmp_path, AT_NODES),
        "REDIS_SENTINEL_USERNAME": AT_SENTINELS.name,
        "REDIS_SENTINEL_PASSWORD_FILE": _secret_file(tmp_path, AT_SENTINELS),
        "REDIS_TLS_CA_FILE": str(shown.authority),
        "REDIS_TLS_CERT_FILE": str(shown.certificate),
        "REDIS_TLS_KEY_FILE": str(shown.key),
        "LINK_CLIENT_PASSWORD": CLIENT_PASSWORD,
    }
    link = start_link(guarded.url, **settings)
    _wait_until_ready(link)
    appenders = Appenders("127.0.0.1", link.port, prefix=f"trader-{ID}:appender", password=CLIENT_PASSWORD)
    appenders.start()

    def traffic() -> None:
        goal = appenders.ledger.count(Outcome.OK) + 300
        wait_until(lambda: appenders.ledger.count(Outcome.OK) >= goal, 30, "traffic", 0.02)

    traffic()
    assert appenders.in_flight > 0, "no operation was in flight"
    before = _get(link, "/status")[1]
    old = guarded.master()
    fault(guarded, old)
    traffic()
    guarded.wait_until_whole()
    traffic()
    ledger = appenders.stop()
    state = _get(link, "/status")[1]
    # The Sentinels may have changed their minds once more.
    new = guarded.master()
    master = guarded.client(new)
    keys = master.scan_iter(f"trader-{ID}:appender*")
    verdict = check(ledger, {key: [int(value) for value in master.lrange(key, 0, -1)] for key in keys})
    print(f"{verdict}; longest stall {ledger.longest_stall:.2f} s")
    assert verdict.exact, verdict
    assert verdict.failed == verdict.indeterminate == 0, verdict
    assert state["handshakes"] > before["handshakes"], "the fault was not felt"
    assert fault is _revoke or state["master_changes"] >= 1
    assert state["silent_nodes"] == [], "a node does not tell the link how far it is"

    # The commands for people use the same settings.
    status = subprocess.run(
        [sys.executable, "-m", "trader_node.status", "--json"],
        env={**os.environ, **settings, "REDIS_URL": guarded.url, "LINK_HTTP": f"127.0.0.1:{link.http_port}"},
        capture_output=True,
        text=True,
        check=False,
    )
    survey = json.loads(status.stdout)
    assert survey["sentinels"]["quorum_ok"] == 3, survey
    assert sorted(node["role"] for node in survey["nodes"]) == ["master", "replica", "replica"]
    assert survey["stored"]["trader_id"] == ID

    # It was all as guarded as it says.
    with pytest.raises((RedisError, OSError)):
        Redis(port=new, socket_timeout=2).ping()
    told = _log(link) + json.dumps(state) + Path(f"/proc/{link.pid}/cmdline").read_text()
    assert not [secret for secret in (AT_NODES.password, AT_SENTINELS.password, CLIENT_PASSWORD) if secret in told]
    assert "Traceback" not in _log(link)


# --- ACL users -------------------------------------------------------------------------------------------------------


def _acl_file(folder: Path, *accounts: Account) -> str:
    path = folder / "users.acl"
    path.write_text("\n".join([DEFAULT, *(account.acl for account in [ADMIN, *accounts])]) + "\n")
    return f"aclfile {path}"


def _admin(port: int) -> Redis:
    return Redis(port=port, username=ADMIN.name, password=ADMIN.password, decode_responses=True)


def test_a_rotated_password_is_used_without_a_restart(
    serve: Callable[..., tuple[int, Process]], start_link: Callable[..., LinkProcess], tmp_path: Path
) -> None:
    port, _ = serve("port PORT", _acl_file(tmp_path, AT_NODES))
    file = _secret_file(tmp_path, AT_NODES)
    link = start_link(f"redis://127.0.0.1:{port}", REDIS_USERNAME=AT_NODES.name, REDIS_PASSWORD_FILE=file)
    _wait_until_ready(link)
    client, admin = _client(link), _admin(port)
    client.rpush(f"trader-{ID}:list", 1)
    client.lrange(f"trader-{ID}:list", 0, -1)
    admin.execute_command("ACL", "SETUSER", AT_NODES.name, ">another")
    Path(file).write_text("another")
    admin.execute_command("ACL", "SETUSER", AT_NODES.name, f"<{AT_NODES.password}")
    client.rpush(f"trader-{ID}:list", 2)
    before = _get(link, "/status")[1]
    # Those that logged in with the old password stay until they break.
    assert admin.execute_command("CLIENT", "KILL", "USER", AT_NODES.name) >= 2
    client.rpush(f"trader-{ID}:list", 3)
    assert client.lrange(f"trader-{ID}:list", 0, -1) == ["1", "2", "3"]
    wait_until(lambda: _get(link, "/status")[1]["handshakes"] > before["handshakes"], 20, "a new connection", 0.05)
    assert [entry for entry in admin.acl_log() if entry["reason"] == "auth"] == []


def test_a_command_beyond_the_rights_fails_alone(
    serve: Callable[..., tuple[int, Process]], start_link: Callable[..., LinkProcess], tmp_path: Path
) -> None:
    port, server = serve("port PORT", _acl_file(tmp_path, AT_NODES))
    link = start_link(
        f"redis://127.0.0.1:{port}",
        REDIS_USERNAME=AT_NODES.name,
        REDIS_PASSWORD=AT_NODES.password,
        LINK_RESPONSE_TIMEOUT="30",
    )
    _wait_until_ready(link)
    own = f"trader-{ID}:"
    asked: list[Callable[[Redis], Any]] = [
        lambda client: client.rpush(f"{own}first", 1),
        lambda client: client.rpush(f"{own}good", 1),
        lambda client: client.incr(f"{own}command"),
        lambda client: client.rpush("trader-TRADER-0010:key", 1),
        lambda client: client.pipeline().rpush(f"{own}good", 2).incr(f"{own}command").execute(),
        lambda client: client.rpush(f"{own}good", 3),
    ]
    # While the server is frozen the first is on its way and all the others wait: they travel in one transaction.
    freeze(server)
    with ThreadPoolExecutor(len(asked)) as pool:
        futures = []
        for number, ask in enumerate(asked, 1):
            futures.append(pool.submit(ask, _client(link)))
            wait_until(lambda number=number: _get(link, "/status")[1]["accepted"] == number, 20, "accepted", 0.02)
        thaw(server)
        errors = [future.exception(30) for future in futures]
    assert [type(error) for error in errors[:4]] == [type(None), type(None), NoPermissionError, NoPermissionError]
    assert "NOPERM" in str(errors[4])
    assert errors[5] is None
    assert _get(link, "/status")[1]["refused"] == 3
    admin = _admin(port)
    assert admin.lrange(f"{own}good", 0, -1) == ["1", "3"]
    assert set(admin.keys()) == {f"{own}first", f"{own}good", f"trader-{ID}.link"}
    # A read too, and the next one goes on.
    with pytest.raises(ResponseError, match="permissions"):
        _client(link).get("other")
    assert _client(link).lrange(f"{own}good", 0, -1) == ["1", "3"]
    assert _get(link, "/healthz")[0] == 200


def test_a_wrong_password_is_told_until_it_is_right(
    serve: Callable[..., tuple[int, Process]], start_link: Callable[..., LinkProcess], tmp_path: Path
) -> None:
    port, _ = serve("port PORT", _acl_file(tmp_path, AT_NODES))
    link = start_link(f"redis://trader:wr0ng@127.0.0.1:{port}", LINK_ID=ID)
    _wait_for_reason(link, f"127.0.0.1:{port}", "WRONGPASS", "check user, password and rights")
    lines = [line for line in _log(link).splitlines() if "WRONGPASS" in line]
    assert len(lines) == 1, "one line every few seconds"
    assert "wr0ng" not in _log(link)
    assert "Traceback" not in _log(link)
    _admin(port).acl_setuser("trader", enabled=True, passwords=["+wr0ng"])
    _wait_until_ready(link)
    assert _client(link).rpush(f"trader-{ID}:list", 1) == 1
    assert _get(link, "/healthz")[0] == 200


def test_a_trader_cannot_read_the_password_of_the_replicas(
    serve: Callable[..., tuple[int, Process]], tmp_path: Path
) -> None:
    port, _ = serve("port PORT", "masterauth of-replicas", _acl_file(tmp_path, AT_NODES))
    assert _admin(port).config_get("masterauth") == {"masterauth": "of-replicas"}
    with pytest.raises(NoPermissionError):
        Redis(port=port, username=AT_NODES.name, password=AT_NODES.password).config_get("masterauth")


def test_rights_that_are_missing_are_named(
    serve: Callable[..., tuple[int, Process]], start_link: Callable[..., LinkProcess], tmp_path: Path
) -> None:
    weak = Account(AT_NODES.name, AT_NODES.password, AT_NODES.rights + " -watch")
    port, _ = serve("port PORT", _acl_file(tmp_path, weak))
    link = start_link(f"redis://trader:{AT_NODES.password}@127.0.0.1:{port}", LINK_ID=ID)
    _wait_for_reason(link, "NOPERM", "watch")


def test_rights_that_are_taken_away_are_named_and_wait(
    serve: Callable[..., tuple[int, Process]], start_link: Callable[..., LinkProcess], tmp_path: Path
) -> None:
    port, _ = serve("port PORT", _acl_file(tmp_path, AT_NODES))
    link = start_link(f"redis://trader:{AT_NODES.password}@127.0.0.1:{port}", LINK_ID=ID)
    _wait_until_ready(link)
    _admin(port).acl_setuser("trader", enabled=True, commands=["-hset"])
    with ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(_client(link).rpush, f"trader-{ID}:list", 1)
        _wait_for_reason(link, f"127.0.0.1:{port}", "NOPERM", "hset")
        assert not pushed.done()
        _admin(port).acl_setuser("trader", enabled=True, commands=["+hset"])
        assert pushed.result(20) == 1
    _wait_until_ready(link)
    assert _get(link, "/healthz")[0] == 200


def test_sentinels_that_refuse_the_login_are_told(
    serve: Callable[..., tuple[int, Process]], start_link: Callable[..., LinkProcess]
) -> None:
    port, _ = serve("port PORT", "requirepass right")
    link = start_link(f"sentinel://127.0.0.1:{port}/mymaster", REDIS_SENTINEL_PASSWORD="wr0ng")  # noqa: S106
    _wait_for_reason(link, f"sentinel 127.0.0.1:{port}", "REDIS_SENTINEL_PASSWORD")
    assert "wr0ng" not in _log(link)
    assert "Traceback" not in _log(link)


# --- certificates ----------------------------------------------------------------------------------------------------

TLS_SERVER = ("port 0", "tls-port PORT", "tls-replication yes")


def _server_lines(authority: Authority, *names: str) -> tuple[str, ...]:
    shown = authority.issue("server", *names)
    return (
        *TLS_SERVER,
        f"tls-ca-cert-file {shown.authority}",
        f"tls-cert-file {shown.certificate}",
        f"tls-key-file {shown.key}",
    )


def _link_options(trusted: Authority, issuer: Authority, scheme: str = "rediss") -> dict[str, str]:
    if scheme == "redis":
        return {}
    shown = issuer.issue("link")
    return {
        "REDIS_TLS_CA_FILE": str(trusted.certificate),
        "REDIS_TLS_CERT_FILE": str(shown.certificate),
        "REDIS_TLS_KEY_FILE": str(shown.key),
    }


@pytest.mark.parametrize(
    ("names", "options", "works"),
    [
        (("IP:127.0.0.1",), {}, True),
        (("DNS:redis.test",), {}, False),
        (("DNS:redis.test",), {"REDIS_TLS_SERVER_NAME": "redis.test"}, True),
        (("IP:127.0.0.1",), {"REDIS_TLS_SERVER_NAME": "redis.test"}, False),
        (("DNS:redis.test",), {"REDIS_TLS_CHECK_HOSTNAME": "false"}, True),
    ],
)
def test_the_address_in_a_certificate_counts(
    names: tuple[str, ...],
    options: dict[str, str],
    works: bool,
    tmp_path: Path,
    serve: Callable[..., tuple[int, Process]],
    start_link: Callable[..., LinkProcess],
) -> None:
    authority = Authority(tmp_path / "pki", strict=False)
    port, _ = serve(*_server_lines(authority, *names))
    link = start_link(f"rediss://127.0.0.1:{port}", **_link_options(authority, authority), **options)
    if works:
        _wait_until_ready(link)
        assert _client(link).rpush("list", 1, 2) == 2
        assert _client(link).lrange("list", 0, -1) == ["1", "2"]
        # On a connection to Redis of the client's own.
        with _client(link).pubsub(ignore_subscribe_messages=True) as listener:
            listener.subscribe("news")
            wait_until(lambda: _client(link).publish("news", "one"), 20, "somebody listens", 0.05)
            wait_until(lambda: (listener.get_message() or {}).get("data") == "one", 20, "the message")
    else:
        _wait_for_reason(link, "its certificate is refused", "REDIS_TLS_SERVER_NAME")


def test_certificates_of_others_are_refused_on_both_sides(
    authority: Authority,
    serve: Callable[..., tuple[int, Process]],
    start_link: Callable[..., LinkProcess],
    tmp_path: Path,
) -> None:
    other = Authority(tmp_path / "pki", "other")
    port, _ = serve(*_server_lines(authority))
    url = f"rediss://127.0.0.1:{port}"
    deceived = start_link(url, **_link_options(other, authority))
    _wait_for_reason(deceived, "its certificate is refused", "REDIS_TLS_CA_FILE")
    without = start_link(url, REDIS_TLS_CA_FILE=str(authority.certificate))
    _wait_for_reason(without, "client certificate", "REDIS_TLS_CERT_FILE")
    stranger = start_link(url, **_link_options(authority, other))
    _wait_for_reason(stranger, "refuses our certificate", "REDIS_TLS_CERT_FILE")
    for link in (deceived, without, stranger):
        assert "Traceback" not in _log(link)
        assert _log(link).count("holding 0 writes") <= 3, "it says so every few seconds"


def test_a_sentinel_with_a_certificate_of_others_is_refused(
    authority: Authority,
    serve: Callable[..., tuple[int, Process]],
    start_link: Callable[..., LinkProcess],
    tmp_path: Path,
) -> None:
    port, _ = serve(*_server_lines(authority))
    other = Authority(tmp_path / "pki", "other")
    link = start_link(f"sentinels://127.0.0.1:{port}/mymaster", **_link_options(other, authority))
    _wait_for_reason(link, f"sentinel 127.0.0.1:{port}", "its certificate is refused", "REDIS_TLS_CA_FILE")
    assert f"sentinel 127.0.0.1:{port} does not answer: TLS: its certificate is refused" in _log(link)
    assert "Traceback" not in _log(link)


def test_plain_text_and_tls_do_not_meet(
    authority: Authority, serve: Callable[..., tuple[int, Process]], start_link: Callable[..., LinkProcess]
) -> None:
    encrypted, _ = serve(*_server_lines(authority))
    plain, _ = serve("port PORT")
    options = _link_options(authority, authority)
    rude = start_link(f"redis://127.0.0.1:{encrypted}")
    _wait_for_log(rude, "if its port wants TLS, use sentinels:// or rediss://")
    shy = start_link(f"rediss://127.0.0.1:{plain}", **options)
    _wait_for_log(shy, "if its port speaks plain text, use sentinel:// or redis://")
    for scheme, port, says in (("sentinel", encrypted, "wants TLS"), ("sentinels", plain, "plain text")):
        link = start_link(f"{scheme}://127.0.0.1:{port}/mymaster", **(options if scheme == "sentinels" else {}))
        _wait_for_log(link, f"sentinel 127.0.0.1:{port} does not answer:")
        assert says in _log(link)
        assert "Traceback" not in _log(link)


@pytest.mark.parametrize(("scheme", "attempts", "seconds"), [("redis", 15, 0.5), ("rediss", 3, 1.5)])
def test_a_server_that_never_will_is_not_asked_in_a_hurry(
    scheme: str,
    attempts: int,
    seconds: float,
    authority: Authority,
    start_link: Callable[..., LinkProcess],
    tmp_path: Path,
) -> None:
    """A port that closes at once, as a TLS port does to plain text, and a certificate that is refused."""
    shown = Authority(tmp_path / "pki", "other").issue("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(shown.certificate, shown.key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        link = start_link(
            f"{scheme}://127.0.0.1:{server.getsockname()[1]}", **_link_options(authority, authority, scheme)
        )
        times = []
        while len(times) <= attempts:
            connection, _ = server.accept()
            times.append(time.monotonic())
            with connection:
                if scheme == "rediss":
                    with contextlib.suppress(OSError):
                        context.wrap_socket(connection, server_side=True).close()
    assert times[-1] - times[0] > seconds
    assert _log(link).count("holding 0 writes") == 1


def test_renewed_certificates_are_taken_without_a_restart(
    authority: Authority,
    serve: Callable[..., tuple[int, Process]],
    start_link: Callable[..., LinkProcess],
    tmp_path: Path,
) -> None:
    port, _ = serve(*_server_lines(authority))
    other = Authority(tmp_path / "pki", "other")
    options = _link_options(authority, other)
    link = start_link(f"rediss://127.0.0.1:{port}", **options)
    _wait_for_reason(link, "refuses our certificate")
    renewed = authority.issue("renewed")
    Path(options["REDIS_TLS_CERT_FILE"]).write_bytes(renewed.certificate.read_bytes())
    Path(options["REDIS_TLS_KEY_FILE"]).write_bytes(renewed.key.read_bytes())
    _wait_until_ready(link)


# --- what the link asks of its own clients ---------------------------------------------------------------------------


@pytest.fixture
def asking(serve: Callable[..., tuple[int, Process]], start_link: Callable[..., LinkProcess]) -> LinkProcess:
    port, _ = serve("port PORT")
    link = start_link(f"redis://127.0.0.1:{port}", LINK_CLIENT_USERNAME="node", LINK_CLIENT_PASSWORD=CLIENT_PASSWORD)
    _wait_until_ready(link)
    return link


def _raw(link: LinkProcess, *commands: tuple[str, ...]) -> bytes:
    """Send everything at once, close our side, and return all that comes."""
    with socket.create_connection(("127.0.0.1", link.port), 10) as connection:
        connection.sendall(b"".join(wire.encode_command(*command) for command in (*commands, ("QUIT",))))
        received = b""
        while data := connection.recv(65536):
            received += data
    return received


NOAUTH = b"-NOAUTH Authentication required.\r\n"


def test_nothing_passes_before_the_login(asking: LinkProcess) -> None:
    writes = [("SET", "k", "v"), ("MULTI",), ("RPUSH", "l", "1"), ("EXEC",), ("GET", "k"), ("HELLO",), ("HELLO", "2")]
    assert _raw(asking, *writes) == NOAUTH * 7 + wire.OK
    answer = _raw(asking, ("AUTH", "node", "wrong"), ("AUTH", CLIENT_PASSWORD), ("SET", "k", "v"))
    assert answer.count(b"-WRONGPASS") == 2
    assert answer.endswith(NOAUTH + wire.OK)
    assert _client(asking, username="node", password=CLIENT_PASSWORD).keys() == ["trader-TRADER-001.link"]
    with pytest.raises(AuthenticationError):
        _client(asking).set("k", "v")
    with pytest.raises(AuthenticationError):
        _client(asking, username="node", password="wrong").ping()  # noqa: S106
    _wait_for_log(asking, "gives a wrong user name or password")
    assert CLIENT_PASSWORD not in _log(asking)


def test_clients_that_log_in_are_served(asking: LinkProcess) -> None:
    client = _client(asking, username="node", password=CLIENT_PASSWORD)
    assert client.pipeline().set("k", "v").get("k").execute() == [True, "v"]
    login = ("AUTH", "node", CLIENT_PASSWORD)
    # In one packet with what follows, and once more later on.
    answer = _raw(asking, ("GET", "k"), login, ("SET", "k", "w"), ("GET", "k"), login, ("RESET",), ("PING",))
    assert answer == NOAUTH + wire.OK * 2 + b"$1\r\nw\r\n" + wire.OK + b"+RESET\r\n" + wire.PONG + wire.OK
    hello = _raw(asking, ("HELLO", "2", "AUTH", "node", CLIENT_PASSWORD, "SETNAME", "x"), ("GET", "k"))
    assert hello.startswith(b"*")
    assert hello.endswith(b"$1\r\nw\r\n" + wire.OK)
    three = _raw(asking, ("HELLO", "3", "AUTH", "node", CLIENT_PASSWORD), ("GET", "k"))
    assert three.startswith(b"-NOPROTO")
    assert three.endswith(NOAUTH + wire.OK)
    command = ["redis-cli", "-p", str(asking.port), "--user", "node", "--no-auth-warning"]
    done = subprocess.run([*command, "-a", CLIENT_PASSWORD, "get", "k"], capture_output=True, text=True, check=True)
    assert done.stdout == "w\n"


def test_a_client_login_for_the_default_user(
    serve: Callable[..., tuple[int, Process]], start_link: Callable[..., LinkProcess]
) -> None:
    port, _ = serve("port PORT")
    link = start_link(f"redis://127.0.0.1:{port}", LINK_CLIENT_PASSWORD=CLIENT_PASSWORD)
    _wait_until_ready(link)
    assert _client(link, password=CLIENT_PASSWORD).set("k", "v")
    assert _client(link, username="default", password=CLIENT_PASSWORD).get("k") == "v"
    arguments = ["redis-cli", "-p", str(link.port), "-a", CLIENT_PASSWORD, "--no-auth-warning", "get", "k"]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout == "v\n"


# --- mistakes in the settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"LINK_LISTEN": "0.0.0.0:0"}, "LINK_LISTEN='0.0.0.0:0' is not on loopback"),
        ({"LINK_LISTEN": "[::]:0"}, "LINK_LISTEN='[::]:0' is not on loopback"),
        ({"LINK_LISTEN": "redis.test:0"}, "set LINK_CLIENT_PASSWORD or LINK_CLIENT_PASSWORD_FILE"),
        ({"LINK_CLIENT_USERNAME": "node"}, "LINK_CLIENT_USERNAME='node' is set without LINK_CLIENT_PASSWORD"),
        ({"LINK_CLIENT_PASSWORD_FILE": "/nowhere"}, "LINK_CLIENT_PASSWORD_FILE='/nowhere' cannot be read"),
        ({"REDIS_PASSWORD_FILE": "/nowhere"}, "REDIS_PASSWORD_FILE='/nowhere' cannot be read: No such file"),
        ({"REDIS_TLS_CA_FILE": "/nowhere"}, "is not encrypted: use rediss:// in REDIS_URL"),
        ({"REDIS_URL": "rediss://r", "REDIS_TLS_CA_FILE": "/nowhere"}, "REDIS_TLS_CA_FILE='/nowhere' cannot be read"),
    ],
)
def test_a_mistake_is_one_line(options: dict[str, str], says: str, start_link: Callable[..., LinkProcess]) -> None:
    link = start_link(**{"url": "redis://127.0.0.1:1", **options})
    wait_until(lambda: not link.running, 20, "the link ends", 0.05)
    assert link.terminate() == 2
    (line,) = _log(link).splitlines()
    assert line.startswith("link: ")
    assert says in line


def test_a_password_opens_other_addresses_with_a_warning(
    serve: Callable[..., tuple[int, Process]], start_link: Callable[..., LinkProcess]
) -> None:
    port, _ = serve("port PORT")
    link = start_link(f"redis://127.0.0.1:{port}", LINK_LISTEN="0.0.0.0:0", LINK_CLIENT_PASSWORD=CLIENT_PASSWORD)
    _wait_for_log(link, "LINK_LISTEN=0.0.0.0:0 is not on loopback: passwords and data of clients pass there in plain")
    _wait_for_log(link, "listening on 0.0.0.0:")
