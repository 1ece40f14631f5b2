"""Attacks on the staging template, each with the precise refusal, and beside it the rightful user who gets through.

The attacker sits on the host, which reaches the containers directly, and has whatever the case says: nothing, a
certificate, the login of the second trader, or a container on another network.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drills.redis_access import Secrets
from drills.stack import MASTER_NAME, Stack, containers_of, docker
from drills.waiting import wait_until
from tests.stacks import Journal

from .attacker import Wire, as_user, issue, tls

#: The attacker's own trader, whose login and certificate have leaked, and the one that it is after.
OWN, OTHER = "TRADER-002", "TRADER-001"
CERTIFICATE = "trader-2"
SERVERS = ("master", "replica", "sentinel-2")
_NO_COMMAND = r"NOPERM .*has no permissions to run the '{}' command"
_NO_KEY = r"NOPERM .*no permissions to access (one of the keys used as arguments|a key)"
_NO_CHANNEL = r"NOPERM .*no permissions to access (one of the channels used as arguments|a channel)"


@pytest.fixture(scope="module")
def secrets(running_stack: Stack) -> Secrets:
    assert running_stack.secrets is not None
    return running_stack.secrets


@pytest.fixture(scope="module")
def addresses(running_stack: Stack) -> dict[str, tuple[str, int]]:
    """Where the servers are that are attacked."""
    master = running_stack.master()
    replica = next(node for node in ("redis-1", "redis-2") if node != master)
    return {
        "master": (running_stack.ip(master), 6379),
        "replica": (running_stack.ip(replica), 6379),
        "sentinel-2": (running_stack.ip("sentinel-2"), 26379),
    }


@pytest.fixture
def rightful(secrets: Secrets, addresses: dict[str, tuple[str, int]]) -> Iterator[Callable[[str], None]]:
    """Check that the second trader itself is served, at a server and by the same way; once more after the attack."""
    asked: list[str] = []

    def check(server: str) -> None:
        asked.append(server)
        with as_user(addresses[server], secrets, OWN, CERTIFICATE) as own:
            assert own.ask("PING") == "PONG"
            if server == "master":
                key = f"trader-{OWN}:attacker"
                assert own.ask("SET", key, "mine") == "OK"
                assert own.ask("GET", key) == "mine"
                assert own.ask("DEL", key) == 1
            if server.startswith("sentinel"):
                assert own.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME) == list(
                    map(str, addresses["master"])
                )

    yield check
    assert asked, "nobody has shown that this server serves anybody"
    for server in set(asked):
        check(server)


@pytest.fixture
def note(journal: Journal, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Take down what the server said, for the table at the end."""
    return lambda said: journal.add(f"attack {request.node.name}: {said}")


# --- without a login ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "command"),
    [
        *((node, command) for node in ("master", "replica") for command in ("PING", "INFO", "GET x", "CONFIG GET *")),
        *(("sentinel-2", command) for command in ("PING", "INFO", "SENTINEL MASTERS", "SENTINEL RESET *")),
        *((server, "SHUTDOWN NOSAVE") for server in SERVERS),
    ],
)
def test_no_password(
    secrets: Secrets,
    addresses: dict[str, tuple[str, int]],
    rightful: Callable[[str], None],
    note: Callable[[str], None],
    server: str,
    command: str,
) -> None:
    rightful(server)
    with Wire(addresses[server], tls(secrets, secrets.certificate(CERTIFICATE))) as wire:
        said = wire.ask(*command.split())
    note(said)
    assert said == "NOAUTH Authentication required."


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (OWN, "wrong"),
        (OWN, ""),
        ("admin", "admin"),
        ("default", ""),
        # Right, and somebody else's.
        (OTHER, OWN),
        ("admin", OWN),
    ],
)
@pytest.mark.parametrize("server", SERVERS)
def test_wrong_password(
    secrets: Secrets,
    addresses: dict[str, tuple[str, int]],
    rightful: Callable[[str], None],
    note: Callable[[str], None],
    server: str,
    user: str,
    password: str,
) -> None:
    rightful(server)
    given = secrets.password_file(OWN).read_text().strip() if password == OWN else password
    with Wire(addresses[server], tls(secrets, secrets.certificate(CERTIFICATE))) as wire:
        said = wire.ask("AUTH", user, given)
        note(said)
        assert said == "WRONGPASS invalid username-password pair or user is disabled."
        assert wire.ask("PING") == "NOAUTH Authentication required."


# --- without the right encryption --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forged(secrets: Secrets, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | None]:
    """Certificates that no server may take, by what is wrong with them, and one made alike that is right."""
    folder = tmp_path_factory.mktemp("forged")
    authority = secrets.folder / "tls/ca.crt", secrets.folder / "tls/ca.key"
    return {
        "none": None,
        "another authority's": issue(folder / "stranger"),
        "expired": issue(folder / "expired", authority=authority, expired=True),
        "right": issue(folder / "right", authority=authority),
    }


@pytest.mark.parametrize(
    ("certificate", "alert"),
    [
        ("none", "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
        ("another authority's", "TLSV1_ALERT_UNKNOWN_CA"),
        ("expired", "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
    ],
)
@pytest.mark.parametrize("server", SERVERS)
def test_certificate(
    secrets: Secrets,
    addresses: dict[str, tuple[str, int]],
    forged: dict[str, Path | None],
    rightful: Callable[[str], None],
    note: Callable[[str], None],
    server: str,
    certificate: str,
    alert: str,
) -> None:
    rightful(server)
    # Made by the same commands, it lets the right password in: what is refused below is refused for the certificate.
    with Wire(addresses[server], tls(secrets, forged["right"])) as wire:
        assert wire.ask("AUTH", OWN, secrets.password_file(OWN).read_text().strip()) == "OK"
    # The client's side of the handshake ends before the server has looked at the certificate; then comes the alert.
    with pytest.raises(ssl.SSLError) as refused, Wire(addresses[server], tls(secrets, forged[certificate])) as wire:
        wire.hear()
    note(str(refused.value.reason))
    assert refused.value.reason == alert


@pytest.mark.parametrize("server", SERVERS)
def test_plain_text(
    addresses: dict[str, tuple[str, int]], rightful: Callable[[str], None], note: Callable[[str], None], server: str
) -> None:
    rightful(server)
    with Wire(addresses[server], None) as wire:
        wire.send(b"*1\r\n$4\r\nPING\r\n")
        try:
            heard = wire.hear()
        except ConnectionResetError:
            heard = b""
    note(f"closed; heard {heard!r}")
    # A TLS alert may come (record type 21), never a word of Redis.
    assert not heard or heard[0] == 21, heard


# --- with the login of another trader ----------------------------------------------------------------------------

_KEYS = (f"trader-{OTHER}:index:orders", f"trader-{OTHER}.link", f"trader-{OWN}0:x", f"trader-{OWN}", "x")
_ON_A_KEY = (
    "GET {}",
    "SET {} x",
    "DEL {}",
    "TYPE {}",
    "EXISTS {}",
    "RPUSH {} x",
    "LRANGE {} 0 -1",
    "LTRIM {} 1 0",
    "SADD {} x",
    "SMEMBERS {}",
    "HSET {} s 99999999",
    "HMGET {} o s",
    "HGETALL {}",
    "XADD {} * a b",
    "XREAD STREAMS {} 0",
    "WATCH {}",
    f"MGET trader-{OWN}:x {{}}",
    f"DEL trader-{OWN}:x {{}}",
)


@pytest.mark.parametrize("command", _ON_A_KEY)
def test_another_traders_keys(
    secrets: Secrets,
    addresses: dict[str, tuple[str, int]],
    rightful: Callable[[str], None],
    note: Callable[[str], None],
    command: str,
) -> None:
    rightful("master")
    with as_user(addresses["master"], secrets, OWN, CERTIFICATE) as wire:
        for key in _KEYS:
            said = wire.ask(*command.format(key).split())
            assert re.match(_NO_KEY, str(said)), (key, said)
        # The command itself is the trader's to give: it is refused for the key alone.
        own = wire.ask(*command.format(f"trader-{OWN}:attacker-own").split())
        assert "NOPERM" not in str(own), own
        wire.ask("DEL", f"trader-{OWN}:attacker-own")
    note(str(said))


_COMMANDS = (
    "FLUSHDB",
    "FLUSHALL",
    "FLUSHALL ASYNC",
    "SWAPDB 0 1",
    "KEYS *",
    "RANDOMKEY",
    "DBSIZE",
    "CONFIG GET masterauth",
    "CONFIG SET maxmemory 1",
    "CONFIG SET dir /tmp",
    "CONFIG REWRITE",
    "DEBUG SLEEP 10",
    "DEBUG SEGFAULT",
    "SHUTDOWN NOSAVE",
    "ACL LIST",
    "ACL SETUSER attacker on nopass +@all ~*",
    f"ACL SETUSER {OWN} +@all ~*",
    "ACL LOAD",
    "REPLICAOF NO ONE",
    "SLAVEOF 172.28.82.99 6379",
    "FAILOVER",
    "PSYNC ? -1",
    "SYNC",
    "REPLCONF listening-port 6379",
    "MONITOR",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "CLIENT PAUSE 10000",
    "SCRIPT FLUSH",
    "EVAL return 1 0",
    "FUNCTION LIST",
    "MODULE LIST",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "RENAME x y",
    "COPY x y",
    "MIGRATE 172.28.82.99 6379 x 0 1000",
    "DUMP x",
    "RESTORE x 0 y",
    "SORT x",
    "OBJECT ENCODING x",
    "PUBLISH __sentinel__:hello x",
    "SUBSCRIBE __sentinel__:hello",
    "PSUBSCRIBE *",
    "SLOWLOG GET",
    "LATENCY LATEST",
    "MEMORY USAGE x",
    "WAIT 1 0",
    "UNWATCH",
)
#: Redis names the subcommand too, where there is one.
_CONTAINERS = ("CONFIG", "ACL", "CLIENT", "SCRIPT", "FUNCTION", "MODULE", "OBJECT", "SLOWLOG", "LATENCY", "MEMORY")


def _named(command: str) -> str:
    words = command.lower().split()
    return f"{words[0]}(\\|{words[1]})?" if words[0].upper() in _CONTAINERS else words[0]


@pytest.mark.parametrize("command", _COMMANDS)
def test_command_that_no_trader_may_give(
    secrets: Secrets,
    addresses: dict[str, tuple[str, int]],
    rightful: Callable[[str], None],
    note: Callable[[str], None],
    command: str,
) -> None:
    rightful("master")
    with as_user(addresses["master"], secrets, OWN, CERTIFICATE) as wire:
        said = wire.ask(*command.split())
    note(said)
    refusal = _NO_COMMAND.format(_named(command))
    if command.startswith("DEBUG"):
        # Nobody may, whatever the rights: that is looked at first.
        refusal = "ERR DEBUG command not allowed"
    assert re.match(refusal, said), said


def test_no_command_hides_in_a_transaction(
    secrets: Secrets, addresses: dict[str, tuple[str, int]], rightful: Callable[[str], None]
) -> None:
    rightful("master")
    with as_user(addresses["master"], secrets, OWN, CERTIFICATE) as wire:
        assert wire.ask("MULTI") == "OK"
        assert wire.ask("SET", f"trader-{OWN}:attacker", "x") == "QUEUED"
        assert re.match(_NO_COMMAND.format("flushdb"), wire.ask("FLUSHDB"))
        assert wire.ask("EXEC").startswith("EXECABORT")
        assert wire.ask("EXISTS", f"trader-{OWN}:attacker") == 0


_AT_SENTINELS = (
    f"SENTINEL SET {MASTER_NAME} down-after-milliseconds 1",
    f"SENTINEL FAILOVER {MASTER_NAME}",
    "SENTINEL MONITOR evil 172.28.82.99 6379 1",
    f"SENTINEL REMOVE {MASTER_NAME}",
    "SENTINEL RESET *",
    "SENTINEL SIMULATE-FAILURE crash-after-election",
    "SENTINEL CONFIG GET *",
    "SENTINEL CONFIG SET announce-ip 172.28.82.99",
    "SENTINEL DEBUG PING-PERIOD 100000",
    "SENTINEL FLUSHCONFIG",
    "SENTINEL IS-MASTER-DOWN-BY-ADDR 172.28.82.99 6379 0 *",
    "SENTINEL MYID",
    f"SENTINEL SENTINELS {MASTER_NAME}",
    "SHUTDOWN",
    "ACL LIST",
    "ACL SETUSER attacker on nopass +@all",
    "CLIENT LIST",
    "PUBLISH __sentinel__:hello x",
    "INFO",
)


@pytest.mark.parametrize("command", _AT_SENTINELS)
def test_command_that_no_trader_may_give_to_a_sentinel(
    secrets: Secrets,
    addresses: dict[str, tuple[str, int]],
    rightful: Callable[[str], None],
    note: Callable[[str], None],
    command: str,
) -> None:
    rightful("sentinel-2")
    with as_user(addresses["sentinel-2"], secrets, OWN, CERTIFICATE) as wire:
        said = wire.ask(*command.split())
    note(said)
    words = command.lower().split()
    named = rf"sentinel(\|{words[1]})?" if words[0] == "sentinel" else _named(command)
    assert re.match(_NO_COMMAND.format(named), said), said


@pytest.mark.parametrize("channel", ["__sentinel__:hello", "+sdown", "+slave", "*"])
def test_nobody_listens_to_what_is_not_for_traders(
    secrets: Secrets,
    addresses: dict[str, tuple[str, int]],
    rightful: Callable[[str], None],
    note: Callable[[str], None],
    channel: str,
) -> None:
    rightful("sentinel-2")
    with as_user(addresses["sentinel-2"], secrets, OWN, CERTIFICATE) as wire:
        said = wire.ask("SUBSCRIBE", channel)
        assert wire.ask("SUBSCRIBE", "+switch-master") == ["subscribe", "+switch-master", 1]
    note(said)
    assert re.match(_NO_CHANNEL, said), said


@pytest.mark.parametrize("user", ["health", "metrics", "replica", "sentinel"])
@pytest.mark.parametrize(
    "command", [f"GET trader-{OTHER}:x", f"SET trader-{OTHER}:x y", "FLUSHALL", "CONFIG GET masterauth", "ACL LIST"]
)
def test_users_of_the_stack_itself_reach_no_data(
    secrets: Secrets,
    addresses: dict[str, tuple[str, int]],
    rightful: Callable[[str], None],
    note: Callable[[str], None],
    user: str,
    command: str,
) -> None:
    rightful("master")
    with as_user(addresses["master"], secrets, user, CERTIFICATE) as wire:
        assert wire.ask("PING") == "PONG"
        said = wire.ask(*command.split())
    note(said)
    assert re.match(_NO_COMMAND.format(_named(command)), said), said


# --- from elsewhere ----------------------------------------------------------------------------------------------

_PROBE = """
import concurrent.futures, json, socket, sys
def probe(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 4).close()
    except Exception as error:
        return type(error).__name__
    return "open"
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    print(json.dumps(dict(zip(sys.argv[1:], pool.map(probe, sys.argv[1:])))))
"""


def _probe(stack: Stack, network: str, targets: list[str]) -> dict[str, str]:
    command = ("--network", network, stack.image, "python", "-c", _PROBE, *targets)
    found: dict[str, str] = json.loads(docker("run", "--rm", *command))
    return found


def test_a_container_on_another_network_reaches_nothing(running_stack: Stack, note: Callable[[str], None]) -> None:
    stack = running_stack
    targets = [
        *(f"{stack.ip(service)}:6379" for service in ("redis-1", "redis-2", "redis-3")),
        *(f"{stack.ip(service)}:26379" for service in ("sentinel-1", "sentinel-2", "sentinel-3")),
    ]
    assert set(_probe(stack, f"{stack.project}_stack", targets).values()) == {"open"}
    network = f"{stack.project}-attacker"
    docker("network", "create", network)
    try:
        found = _probe(stack, network, targets)
    finally:
        docker("network", "rm", network)
    note(str(found))
    assert set(found.values()) == {"TimeoutError"}


def test_a_traders_link_serves_nobody_but_its_own_node(running_stack: Stack, note: Callable[[str], None]) -> None:
    """It asks its clients for no login: loopback is its protection."""
    stack = running_stack
    link = f"{stack.ip('trader')}:6379"
    found = _probe(stack, f"{stack.project}_stack", [link])
    note(str(found))
    assert found == {link: "ConnectionRefusedError"}
    inside = stack.beside("trader", "python", "-c", _PROBE, "127.0.0.1:6379")
    assert json.loads(inside) == {"127.0.0.1:6379": "open"}


# --- where secrets might show ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def confidential(secrets: Secrets) -> dict[str, str]:
    """What must show nowhere, by the name of its file."""
    found = {path.name: path.read_text().strip() for path in sorted((secrets.folder / "passwords").iterdir())}
    for key in sorted((secrets.folder / "tls").glob("**/*.key")):
        found[str(key.relative_to(secrets.folder))] = key.read_text().splitlines()[1]
    assert {"admin", f"trader-{OWN}", "tls/redis-1/tls.key"} <= found.keys()
    assert all(len(secret) >= 16 for secret in found.values())
    return found


def _showing(confidential: dict[str, str], text: str) -> list[str]:
    return [name for name, secret in confidential.items() if secret in text]


def test_secrets_are_not_in_docker_inspect(running_stack: Stack, confidential: dict[str, str]) -> None:
    shown = json.dumps(containers_of(running_stack.project))
    # What is configured does show.
    assert f"TRADER_ID={OWN}" in shown
    assert _showing(confidential, shown) == []


def test_secrets_are_not_in_logs(running_stack: Stack, confidential: dict[str, str]) -> None:
    for service, container in containers_of(running_stack.project).items():
        logged = running_stack.logs(service, lines=1_000_000)
        # Prometheus is silent when all is well; whoever handles passwords is not.
        assert logged.strip() or service not in running_stack.services, f"{service} has logged nothing"
        assert _showing(confidential, logged) == [], service
        assert _showing(confidential, json.dumps(container["State"])) == [], f"{service}: what its healthcheck says"


def test_secrets_are_not_in_images(running_stack: Stack, confidential: dict[str, str]) -> None:
    images = {container["Image"] for container in containers_of(running_stack.project).values()}
    assert len(images) >= 2
    for image in images:
        history = docker("history", "--no-trunc", image) + docker("image", "inspect", image)
        assert "ENTRYPOINT" in history or "CMD" in history
        assert _showing(confidential, history) == []


def test_secrets_are_not_in_process_lists(running_stack: Stack, confidential: dict[str, str]) -> None:
    """Probes begin and end all the time: this looks until it has seen some of them at their work."""
    seen: set[str] = set()

    def probes() -> bool:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        return sum(line.startswith("redis-cli") and "--user health" in line for line in seen) >= 2

    wait_until(probes, 60, "probes by redis-cli in the process list", 0.005)
    assert any(line.startswith("redis-server") for line in seen)
    assert _showing(confidential, "\n".join(seen)) == []


def test_only_owners_read_the_files(secrets: Secrets) -> None:
    files = [*(secrets.folder / "passwords").iterdir(), *(secrets.folder / "tls").glob("**/*.key")]
    assert files
    for path in files:
        assert path.stat().st_mode & 0o777 in (0o600, 0o400), path
    hashes = "".join(path.read_text() for path in (secrets.folder / "acl").iterdir())
    assert re.search(r"user admin on #[0-9a-f]{64}", hashes)
    assert not re.search(r" >", hashes)


# --- what a container could do if it were taken over -------------------------------------------------------------


def test_containers_are_confined(running_stack: Stack) -> None:
    containers = containers_of(running_stack.project)
    assert set(running_stack.services) <= containers.keys()
    assert "trader-2" in containers
    for service, container in containers.items():
        host: dict[str, Any] = container["HostConfig"]
        published = [binding for ports in container["NetworkSettings"]["Ports"].values() for binding in ports or []]
        # Pages of metrics are there for the host alone; data and Sentinels not even for that.
        assert {binding["HostIp"] for binding in published} <= {"127.0.0.1"}, service
        assert not published or service not in running_stack.services, f"{service} publishes a port"
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        assert not host["Privileged"], service
        assert host["NetworkMode"] == f"{running_stack.project}_stack", service
        assert not host["PidMode"], service
        assert host["Memory"] > 0, f"{service} may take all memory"
        assert host["NanoCpus"] > 0, f"{service} may take all processors"
        assert host["PidsLimit"] > 0, f"{service} may start any number of processes"
        assert not any("docker.sock" in mount["Source"] for mount in container["Mounts"]), service


def test_a_process_in_a_container_has_no_rights(running_stack: Stack) -> None:
    """What the kernel says of the first process, and of a write to the root file system."""
    for service in containers_of(running_stack.project):
        status = dict(
            line.split(":", 1) for line in running_stack.execute(service, "cat", "/proc/1/status").splitlines()
        )
        assert int(status["CapEff"], 16) == 0, service
        assert int(status["CapBnd"], 16) == 0, service
        assert status["NoNewPrivs"].strip() == "1", service
        assert "0" not in status["Uid"].split(), service
        script = "(echo x >/attacker) 2>&1; (echo x >/usr/bin/attacker) 2>&1; exit 0"
        said = running_stack.execute(service, "sh", "-c", script).splitlines()
        assert len(said) == 2, (service, said)
        assert all("Read-only file system" in line for line in said), (service, said)
