"""A node with logins, by itself: what it refuses to start on, and how it is reached."""

from __future__ import annotations

import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from trader_node.acl import acl_file

IMAGE = f"nautilus-redis-ha/redis:{os.environ.get('IMAGE_TAG', 'local')}"
USERS = ("admin", "health", "replica", "sentinel", "metrics", "TRADER-001")
ACL = acl_file("nodes", ("TRADER-001",), {user: [hashlib.sha256(user.encode()).hexdigest()] for user in USERS})
PREPARE = f"""
for user in admin health replica; do printf %s "$user" >/run/secrets/$user; done
cat >/run/secrets/users.acl <<'ACL_FILE'
{ACL}ACL_FILE
start() {{ timeout 20 sh /opt/redis-node/entrypoint.sh; }}
"""

#: All at once: each waits for 5 s before it ends, so that the restart policy does not spin.
REFUSALS = [
    ("REDIS_TLS=perhaps", "REDIS_TLS=perhaps is neither yes nor no"),
    ("REDIS_TLS=yes", "REDIS_TLS=yes, but /run/tls/ca.crt cannot be read by uid 10002: see ./scripts/certs"),
    ("rm /run/secrets/health", "/run/secrets/health cannot be read by uid 10002: see ./scripts/secrets"),
    ("chmod 0 /run/secrets/users.acl", "/run/secrets/users.acl"),
    ("echo 'two words' >/run/secrets/replica", 'the password of "replica" is empty or has a character other than'),
    ("sed -i '/default/s/ off .*/ off/' /run/secrets/users.acl", "the user default has to be"),
    ("sed -i '/default/s/ off / on /' /run/secrets/users.acl", "the user default has to be"),
]

REACHED = """
start >/tmp/log 2>&1 &
until [ "$(sh /opt/redis-node/cli.sh PING 2>/dev/null)" = PONG ]; do sleep 0.1; done
echo "nobody: $(redis-cli PING 2>&1)"
echo "cli: $(sh /opt/redis-node/cli.sh ACL WHOAMI)"
echo "as: $(CLI_USER=health sh /opt/redis-node/cli.sh CONFIG GET dir)"
echo "health: $(sh /opt/redis-node/healthcheck.sh)"
echo "modes: $(stat -c %a /tmp/redis.conf /data/appendonlydir | paste -sd' ')"
echo "replica: $(sh /opt/redis-node/cli.sh CONFIG GET masterauth | tail -n 1)"
"""


def _run(script: str) -> list[str]:
    options = ("--rm", "--init", "--network", "none", "--read-only", "--cap-drop", "ALL", "--volume", "/data")
    tmpfs = [part for path in ("/tmp", "/run/secrets") for part in ("--tmpfs", f"{path}:mode=1777")]  # noqa: S108
    command = ["docker", "run", *options, *tmpfs, "--env", "NODE_IP=127.0.0.1", "--entrypoint", "sh", IMAGE]
    done = subprocess.run([*command, "-euc", PREPARE + script], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.timeout(120)
def test_what_it_refuses_to_start_on() -> None:
    def started_after(spoil: str) -> list[str]:
        setting = "export " if spoil.startswith("REDIS_TLS") else ""
        return _run(f"{setting}{spoil}; status=0; start || status=$?; echo status $status")

    with ThreadPoolExecutor(len(REFUSALS)) as pool:
        outputs = pool.map(started_after, [spoil for spoil, _ in REFUSALS])
    for (spoil, says), (*said, status) in zip(REFUSALS, outputs, strict=True):
        assert status == "status 1", spoil
        assert len(said) == 1, said
        assert says in said[0]
        assert "words" not in said[0], "a password"


@pytest.mark.timeout(120)
def test_how_it_is_reached() -> None:
    assert _run(REACHED) == [
        "nobody: NOAUTH Authentication required.",
        "cli: admin",
        "as: NOPERM this user has no permissions to run the 'config|get' command",
        "health: master",
        "modes: 600 700",
        "replica: replica",
    ]
