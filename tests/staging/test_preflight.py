"""What ./scripts/up --staging says before it starts anything."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from drills.stack import docker
from tests.stacks import ROOT, run_script

PROJECT = "nautilus-redis-ha-test-preflight"
#: As root on a copy of the files, which belong to the users of the containers.
EXPIRE = r"""
mkdir /tmp/ca && cd /tmp/ca && : >index
cat >config <<CONFIG
[ca]
default_ca = authority
[authority]
database = index
new_certs_dir = .
policy = names
default_md = sha256
rand_serial = yes
[names]
commonName = supplied
[req]
distinguished_name = name
prompt = no
[name]
CN = redis-2
CONFIG
openssl req -new -config config -key /secrets/tls/redis-2/tls.key -out csr
openssl ca -batch -config config -in csr -out crt -notext -cert /secrets/tls/ca.crt -keyfile /secrets/tls/ca.key \
    -startdate 20200101000000Z -enddate 20200102000000Z 2>errors || { cat errors >&2 && exit 1; }
cat crt >/secrets/tls/redis-2/tls.crt
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of a stack that is never started."""
    return {
        **os.environ,
        "COMPOSE_PROJECT_NAME": PROJECT,
        "SUBNET_PREFIX": os.environ.get("TEST_PREFLIGHT_SUBNET_PREFIX", "172.28.83"),
        "SECRETS_DIR": str(tmp_path_factory.mktemp("preflight") / "secrets"),
    }


@pytest.fixture(scope="module")
def made(environment: dict[str, str]) -> Path:
    """Secrets and certificates as they should be."""
    run_script(environment, "secrets")
    run_script(environment, "certs")
    return Path(environment["SECRETS_DIR"])


@pytest.fixture
def spoil(made: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str], dict[str, str]]]:
    """Return what spoils a copy of them by a shell script, and gives the settings that use the copy."""
    copy = tmp_path / "secrets"

    def spoil(script: str) -> dict[str, str]:
        _as_root(f"cp -a /made /copies/secrets && ln -s /copies/secrets /secrets; {script}", made, tmp_path)
        return {**environment, "SECRETS_DIR": str(copy)}

    yield spoil
    _as_root("rm -rf /copies/secrets", made, tmp_path)


def _as_root(script: str, made: Path, copies: Path) -> None:
    image = f"nautilus-redis-ha/trader:{os.environ.get('IMAGE_TAG', 'local')}"
    mounts = ("--volume", f"{made}:/made:ro", "--volume", f"{copies}:/copies")
    docker("run", "--rm", "--user", "0:0", "--network", "none", *mounts, image, "sh", "-euc", script)


def _check(environment: Mapping[str, str], *options: str) -> tuple[int, str]:
    command = [str(ROOT / "scripts" / "up"), "--staging", *options, "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(environment), check=False)
    assert "Traceback" not in done.stdout + done.stderr
    print(done.stderr)
    return done.returncode, done.stderr


def test_all_is_there(made: Path, environment: dict[str, str]) -> None:
    code, said = _check(environment, "--second-trader")
    assert code == 0, said
    assert "error" not in said


#: What is done to the files, what is said then, and what there is to do about it.
SPOILED = [
    ("rm /secrets/passwords/trader-TRADER-001", "the password of TRADER-001 is missing", "./scripts/secrets"),
    ("rm /secrets/acl/sentinels.acl", "the ACL file of the sentinels is missing", "./scripts/secrets"),
    ("chmod 0644 /secrets/passwords/admin", "others may read the password of admin (mode 644)", "chmod 600"),
    ("chmod 0640 /secrets/tls/redis-1/tls.key", "others may read the key of redis-1 (mode 640)", "chmod 600"),
    ("chown 0 /secrets/passwords/health", "the password of health belongs to uid 0", "./scripts/secrets"),
    ("echo x >/secrets/passwords/replica", "the servers would not know the password of replica", "./scripts/secrets"),
    ("rm /secrets/tls/trader/tls.crt", "the certificate of trader is missing", "./scripts/certs"),
    ("echo x >/secrets/tls/sentinel-3/tls.crt", "the certificate of sentinel-3 is damaged", "./scripts/certs"),
    ("cp /secrets/tls/ca.crt /secrets/tls/redis-3/tls.crt", "the certificate of redis-3 is not for", "./scripts/certs"),
    ("rm /secrets/tls/sentinel-1/tls.key", "the key of sentinel-1 is missing", "./scripts/certs sentinel-1"),
    (EXPIRE, "the certificate of redis-2 has expired (Jan  2 00:00:00 2020 GMT)", "./scripts/certs"),
]


def test_what_is_wrong_is_told_before_a_start(spoil: Callable[[str], dict[str, str]]) -> None:
    """All at once, and nothing besides."""
    code, said = _check(spoil("\n".join(f"({script})" for script, _, _ in SPOILED)))
    assert code == 1
    lines = said[said.index("error: ") :].removeprefix("error: ").splitlines()
    assert len(lines) == 2 * len(SPOILED), said
    told = dict(zip(lines[::2], lines[1::2], strict=True))
    for _, says, remedy in SPOILED:
        assert any(says in problem and remedy in told[problem] for problem in told), says


@pytest.mark.parametrize(
    ("folder", "says", "remedy"),
    [
        ("passwords", "holds no passwords", "./scripts/secrets"),
        ("tls", "holds no certificates", "./scripts/certs"),
    ],
)
def test_nothing_was_made_yet(spoil: Callable[[str], dict[str, str]], folder: str, says: str, remedy: str) -> None:
    code, said = _check(spoil(f"rm -r /secrets/{folder}"))
    assert code == 1
    assert says in said
    assert remedy in said


def test_the_second_trader_needs_what_the_first_one_needs(spoil: Callable[[str], dict[str, str]]) -> None:
    environment = spoil("rm /secrets/passwords/trader-TRADER-002")
    assert _check(environment)[0] == 0
    code, said = _check(environment, "--second-trader")
    assert code == 1
    assert "the password of TRADER-002 is missing" in said


def test_two_traders_of_one_id(made: Path, environment: dict[str, str]) -> None:
    code, said = _check({**environment, "TRADER_2_ID": "TRADER-001"}, "--second-trader")
    assert code == 1
    assert "TRADER_2_ID=TRADER-001 is TRADER_ID as well" in said


def test_certificates_that_expire_soon_are_a_warning(environment: dict[str, str], tmp_path: Path, made: Path) -> None:
    soon = {**environment, "SECRETS_DIR": str(tmp_path / "secrets"), "CERTS_DAYS": "3"}
    run_script(soon, "secrets")
    run_script(soon, "certs")
    code, said = _check(soon)
    assert code == 0
    assert "warning: the certificate of trader expires soon" in said
    _as_root("rm -rf /copies/secrets", made, tmp_path)


def test_certificates_of_another_subnet(made: Path, environment: dict[str, str]) -> None:
    subnet = os.environ.get("TEST_SINGLE_SUBNET_PREFIX", "172.28.80")
    code, said = _check({**environment, "SUBNET_PREFIX": subnet})
    assert code == 1
    assert f"the certificate of sentinel-2 is not for its address, {subnet}.22 (SUBNET_PREFIX)" in said


def test_more_cpus_than_there_are(made: Path, environment: dict[str, str]) -> None:
    code, said = _check({**environment, "REDIS_CPUS": "4096"})
    assert code == 1
    assert "REDIS_CPUS=4096: a container cannot have that many CPUs" in said


def test_the_kernel_is_looked_at(made: Path, environment: dict[str, str], tmp_path: Path) -> None:
    settings = {
        "proc/sys/vm/overcommit_memory": ("1", "0", "vm.overcommit_memory=0"),
        "sys/kernel/mm/transparent_hugepage/enabled": ("always [madvise] never", "[always] never", "huge pages"),
        "proc/sys/net/core/somaxconn": ("4096", "128", "net.core.somaxconn=128"),
    }

    def check(which: int) -> tuple[int, str]:
        for name, values in settings.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{values[which]}\n")
        return _check({**environment, "KERNEL_ROOT": str(tmp_path)})

    assert check(0) == (0, "")
    code, said = check(1)
    assert code == 0, "a warning alone"
    assert said.count("warning: ") == 3
    assert all(warning in said for _, _, warning in settings.values())
