"""The independent appender of a drill, seen from the host: starts it, follows it, and compares what it wrote."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from .ledger import Ledger, Outcome, Record, Verdict, check
from .stack import HELPER_LABEL, MASTER_NAME, NODES, SENTINELS, DockerError, Stack
from .waiting import wait_until


class Operation(NamedTuple):
    """Appends that were sent together. Times in Unix seconds of this host."""

    began: float
    ended: float
    acknowledged: int
    failed: int
    indeterminate: int


@dataclass(slots=True)
class Accepted:
    """Everything that the appender asked for, and how it ended."""

    operations: list[Operation]
    ledger: Ledger
    #: The status of its link at the end.
    link: dict[str, Any]


@dataclass(slots=True)
class Tick:
    """The appender's state at a moment."""

    at: float = 0.0
    acknowledged: int = 0
    failed: int = 0
    in_flight: int = 0
    #: When the last answer came.
    last: float | None = None
    keys: list[str] = field(default_factory=list)


#: The appender's user where there are logins: a trader id of its own, like any other (TRADERS of ./scripts/secrets).
DRILL_USER = "DRILL-001"


class Traffic:
    """Runs beside a stack until stopped, or until this process is gone.

    ``key_prefix`` is that of all its keys but its link's marker, ``marker_key``.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        # Of its own each time: what an interrupted run left behind is another's. A user with a login may touch no keys
        # but its own.
        self.link_id = DRILL_USER if stack.secrets else f"DRILL-{secrets.token_hex(4)}"
        self.key_prefix = f"trader-{self.link_id}:"
        self.marker_key = f"trader-{self.link_id}.link"
        self.tick = Tick()
        self._answers: dict[str, dict[str, Any]] = {}
        self._answered = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._offset = 0.0

    def start(self, seconds: float = 60.0) -> None:
        """Start it and wait until its writes are applied.

        Raises
        ------
        DockerError
            If it does not get that far; with its last words.

        """
        stack = self._stack
        if stack.secrets:
            refused = appender_lacks(stack)
            if refused:
                raise DockerError(refused)
            self.clean()
        self._process = subprocess.Popen(
            [
                *("docker", "run", "--rm", "--interactive", "--init", "--name", f"{stack.project}-{self.link_id}"),
                *("--label", f"{HELPER_LABEL}={stack.project}", "--network", f"{stack.project}_stack"),
                *("--user", _user(stack), "--volume", f"{stack.root}:/repo:ro"),
                *("--env", f"LINK_ID={self.link_id}", "--env", "LINK_ON_OOM=hold"),
                *_way_to_redis(stack),
                *(stack.image, "python", "-m", "drills.traffic_process"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C is for us: the traffic runs on until what was broken is healed and compared.
            process_group=0,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._answer("ready", seconds)
        # The engine may run in a virtual machine with a clock of its own.
        asked = time.time()
        there = self._ask("clock")["at"]
        self._offset = (asked + time.time()) / 2 - there

    def stop(self, seconds: float = 90.0) -> Accepted:
        """Stop it when everything under way is answered, and return what it asked for."""
        final = self._ask("stop", "ended", seconds)
        ledger = Ledger()
        for key, outcomes in final["records"].items():
            record = ledger.records[key] = Record()
            record.outcomes = bytearray(base64.b64decode(outcomes))
            record.ended = len(record.outcomes)
            for outcome in Outcome:
                ledger.counts[outcome] += record.outcomes.count(outcome)
        operations = [
            Operation(began + self._offset, ended + self._offset, *counts)
            for began, ended, *counts in final["operations"]
        ]
        self.close()
        return Accepted(operations, ledger, final["link"])

    def close(self) -> None:
        """End it, whatever it is doing."""
        if self._process is None:
            return
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            subprocess.run(
                ["docker", "rm", "--force", f"{self._stack.project}-{self.link_id}"],  # noqa: S607
                capture_output=True,
                check=False,
            )
            self._process.kill()
            self._process.wait()

    def compare(self, accepted: Accepted, node: str) -> Verdict:
        """Compare one by one what was accepted with what a node of Redis holds."""
        client = self._stack.reader(node)
        keys = list(client.scan_iter(f"{self.key_prefix}*", count=1000))
        return check(accepted.ledger, {key: [int(value) for value in client.lrange(key, 0, -1)] for key in keys})

    def clean(self) -> None:
        """Remove everything that it wrote from the master."""
        client = self._stack.client(self._stack.master(), 30.0)
        keys = list(client.scan_iter(f"{self.key_prefix}*", count=1000))
        client.delete(self.marker_key, *keys)

    @property
    def clock(self) -> float:
        """Seconds to add to the appender's clock to get this host's."""
        return self._offset

    def missing_on(self, node: str) -> int:
        """Return how many acknowledged appends a node lacks at the moment; what is sent again comes back."""
        tick = self.tick
        client = self._stack.client(node, 0.5)
        pipeline = client.pipeline(transaction=False)
        for key in tick.keys:
            pipeline.llen(key)
        return max(0, tick.acknowledged - sum(pipeline.execute()))

    def _ask(self, command: str, answer: str = "", seconds: float = 10.0) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command}) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it is gone, and the answer tells why
        return self._answer(answer or command, seconds)

    def _answer(self, kind: str, seconds: float) -> dict[str, Any]:
        with self._answered:
            self._answered.wait_for(lambda: {kind, "error", "gone"} & self._answers.keys(), seconds)
            if kind in self._answers:
                return self._answers.pop(kind)
            error = self._answers.get("error") or self._answers.get("gone") or {"text": f"no answer in {seconds:g} s"}
        self.close()
        raise DockerError(f"the drill's traffic: {error['text']}")

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for line in self._process.stdout:
            message = json.loads(line)
            kind = message.pop("kind")
            if kind == "tick":
                self.tick = Tick(**message)
                continue
            with self._answered:
                self._answers[kind] = message
                self._answered.notify_all()
        words = self._process.stderr.read().strip().splitlines()
        with self._answered:
            self._answers["gone"] = {"text": f"it ended: {words[-1] if words else 'it said nothing'}"}
            self._answered.notify_all()


def appender_lacks(stack: Stack) -> str:
    """Return why the appender could not log in, in one line that says what to do; empty if it can."""
    if stack.secrets is None:
        return ""
    if not stack.secrets.password_file(DRILL_USER).exists():
        return (
            f"{stack.secrets.folder} has no password of {DRILL_USER}, the user of the drills' own traffic: "
            f"TRADERS={DRILL_USER} ./scripts/secrets makes it"
        )
    for node in NODES:
        try:
            stack.client_as(node, DRILL_USER).ping()
        except (RedisError, OSError) as error:
            return f"{node} does not let {DRILL_USER} in, the user of the drills' own traffic: {error}"
    return ""


def _user(stack: Stack) -> str:
    # Each secret belongs to the user of one service; root reads what two of them have.
    return "0:0" if stack.secrets else f"{os.getuid()}:{os.getgid()}"


def _way_to_redis(stack: Stack) -> list[str]:
    """Return options of ``docker run`` that tell a link where Redis is, and as whom: secrets as files alone."""
    hosts = ",".join(f"{stack.ip(sentinel)}:26379" for sentinel in SENTINELS)
    if stack.secrets is None:
        return ["--env", f"REDIS_URL=sentinel://{hosts}/{MASTER_NAME}"]
    password, tls = f"/run/secrets/{DRILL_USER}", "/run/tls"
    settings = {
        "REDIS_URL": f"sentinels://{hosts}/{MASTER_NAME}",
        "REDIS_USERNAME": DRILL_USER,
        "REDIS_PASSWORD_FILE": password,
        "REDIS_SENTINEL_USERNAME": DRILL_USER,
        "REDIS_SENTINEL_PASSWORD_FILE": password,
        "REDIS_TLS_CA_FILE": f"{tls}/ca.crt",
        "REDIS_TLS_CERT_FILE": f"{tls}/tls.crt",
        "REDIS_TLS_KEY_FILE": f"{tls}/tls.key",
    }
    return [
        *(part for name, value in settings.items() for part in ("--env", f"{name}={value}")),
        *("--volume", f"{stack.secrets.password_file(DRILL_USER)}:{password}:ro"),
        *("--volume", f"{stack.secrets.certificate()}:{tls}:ro"),
    ]


def wait_until_replicated(stack: Stack, seconds: float = 30.0) -> None:
    """Wait until both replicas have everything that the master had written when this was called."""
    master = stack.master()
    offset = int(stack.client(master).info("replication")["master_repl_offset"])
    for node in NODES:
        if node != master:
            wait_until(
                lambda node=node: int(stack.client(node).info("replication")["slave_repl_offset"]) >= offset,
                seconds,
                f"{node} has everything that {master} had",
            )
