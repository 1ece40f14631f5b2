"""What the scripts make of a stack that exists: its overlays, and what they do not overlook."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBS = "log settings lock compose preflight operations rollout swarm"
#: Answers by what the command line begins with; whatever else is asked fails, and is written down.
FAKE_DOCKER = """#!/usr/bin/env bash
folder=$(dirname "$0")
[[ "$*" != *--interactive* ]] || stdin=$(cat)
echo "$*${stdin:+ <<< $stdin}" >>"$folder/log"
while IFS='|' read -r pattern answer; do
    [[ "$*${stdin:+ $stdin}" == $pattern ]] || continue
    [[ $answer != fail ]] || exit 1
    [[ ! -f $folder/$answer ]] || cat "$folder/$answer"
    exit 0
done <"$folder/answers"
exit 1
"""


class Docker:
    """A ``docker`` on the PATH that tells of containers which do not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "docker").write_text(FAKE_DOCKER)
        (folder / "docker").chmod(0o755)
        self._answers: list[str] = []

    def answer(self, pattern: str, *lines: str) -> None:
        name = f"answer-{len(self._answers)}"
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))
        self._add(pattern, name)

    def fails(self, pattern: str) -> None:
        self._add(pattern, "fail")

    def _add(self, pattern: str, answer: str) -> None:
        self._answers.append(f"{pattern}|{answer}\n")
        (self.folder / "answers").write_text("".join(self._answers))

    def made_of(self, *containers: tuple[str, str], root: Path = ROOT) -> None:
        """Tell of containers: each one's service, and its Compose files, with spaces between."""
        lines = [
            f"{service}|{root}|{','.join(name if name[0] == '/' else f'{root}/{name}' for name in files.split())}"
            for service, files in containers
        ]
        self.answer("ps *config_files*", *lines)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    return Docker(tmp_path / "bin")


Bash = Callable[..., tuple[int, str]]


@pytest.fixture
def bash(docker: Docker) -> Bash:
    def run(script: str, root: Path = ROOT, libs: str = LIBS, **environment: str) -> tuple[int, str]:
        command = f'for lib in {libs}; do . "scripts/lib/$lib.sh"; done; {script}'
        return _run(docker, ["bash", "-euo", "pipefail", "-c", command], root, environment)

    return run


def _run(docker: Docker, command: list[str], root: Path, environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        command,
        cwd=root,
        env={
            "PATH": f"{docker.folder}:{os.environ['PATH']}",
            "PWD": str(root),
            "COMPOSE_PROJECT_NAME": "shop",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    print(done.stdout)
    return done.returncode, done.stdout


@pytest.fixture
def up(docker: Docker) -> Bash:
    """``./scripts/up --check`` with that engine."""
    docker.answer("info*", "4")
    docker.answer("compose version*", "2.40.0")
    docker.answer("network ls*")
    docker.answer("volume ls*")
    docker.answer("compose *config --quiet")

    def run(*options: str, **environment: str) -> tuple[int, str]:
        docker.answer("ps *")
        return _run(docker, [str(ROOT / "scripts/up"), *options], ROOT, environment)

    return run


def functions_of(script: str, *names: str) -> str:
    """Return the Bash that defines some of the functions which a script has of its own."""
    return "; ".join(f'eval "$(sed -n "/^{name}() {{/,/^}}/p" scripts/{script})"' for name in names)


# --- the files with which containers were made -----------------------------------------------------------------------


def files(said: str) -> list[str]:
    return [line.removeprefix(f"{ROOT}/") for line in said.splitlines()]


def test_every_container_tells_of_its_files_once(docker: Docker, bash: Bash) -> None:
    docker.made_of(
        ("prometheus", "compose/base.yaml compose/staging.yaml compose/observability.yaml"),
        ("redis-1", "compose/base.yaml compose/staging.yaml /elsewhere/limits.yaml"),
    )
    assert files(bash("files_of_containers")[1]) == [
        "compose/base.yaml",
        "compose/staging.yaml",
        "compose/observability.yaml",
        "/elsewhere/limits.yaml",
    ]


def test_a_folder_that_was_moved_is_recognised(docker: Docker, bash: Bash) -> None:
    docker.made_of(("redis-1", "compose/base.yaml compose/staging.yaml"), root=Path("/where/it/was"))
    assert files(bash("files_of_containers")[1]) == ["compose/base.yaml", "compose/staging.yaml"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy whose path has a space in it and the word five."""
    copy = tmp_path / "my five checkouts"
    for part in ("scripts/lib", "compose"):
        shutil.copytree(ROOT / part, copy / part)
    return copy


def test_a_path_with_a_space_and_a_symlink(docker: Docker, bash: Bash, checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout)
    made_with = "compose/base.yaml compose/staging.yaml compose/own-strategy.yaml"
    docker.made_of(("trader", made_with), root=checkout)
    docker.answer("inspect*node.json*", "/my node.json")
    docker.answer("inspect*user*", "/code")
    for root in (checkout, link):
        code, said = bash('use_running_overlays; printf "%s\\n" "${COMPOSE_FILES[@]}"', root)
        assert (code, said.split("-f\n")[1:]) == (0, [f"{checkout}/{name}\n" for name in made_with.split()[:2]])
        script = 'PROJECT=shop; use_files_of_the_running_stack; printf "%s\\n" "${COMPOSE_FILES[@]}" "$TRADER_CONFIG"'
        code, said = bash(script, root)
        assert (code, said) == (
            0,
            "".join(f"-f\n{checkout}/{name}\n" for name in made_with.split()) + "/my node.json\n",
        )


@pytest.mark.parametrize(("there", "counts"), [("redis-4", True), ("sentinel-4", True), ("trader", False)])
def test_five_counts_while_something_of_it_is_there(docker: Docker, bash: Bash, there: str, counts: bool) -> None:
    docker.made_of((there, "compose/base.yaml compose/five.yaml compose/five+observability.yaml"))
    assert (files(bash("files_of_containers")[1])[1:] != []) == counts
    said = bash('PROJECT=shop; use_files_of_the_running_stack; echo "${COMPOSE_FILES[@]}"')[1]
    assert ("five.yaml" in said) == counts


def test_a_stack_without_a_trader_tells_of_its_files(docker: Docker, bash: Bash) -> None:
    docker.made_of(("redis-1", "compose/base.yaml compose/staging.yaml"))
    code, said = bash('PROJECT=shop; use_files_of_the_running_stack; echo "${COMPOSE_FILES[@]}"')
    assert code == 0
    assert said.strip().endswith("compose/staging.yaml")


def test_a_node_of_ones_own_that_nobody_knows_is_asked_for(docker: Docker, bash: Bash) -> None:
    docker.made_of(("redis-1", "compose/base.yaml compose/own-strategy.yaml"))
    code, said = bash("PROJECT=shop; use_files_of_the_running_stack")
    assert code == 1
    assert "TRADER_CONFIG" in said


def test_a_file_that_is_gone_is_named(docker: Docker, bash: Bash) -> None:
    docker.made_of(("redis-1", "compose/base.yaml /gone/mine.yaml"))
    code, said = bash("PROJECT=shop; use_files_of_the_running_stack")
    assert code == 1
    assert "/gone/mine.yaml" in said


def test_an_engine_that_does_not_answer_is_no_stack_without_overlays(docker: Docker, bash: Bash) -> None:
    docker.fails("ps*")
    for function in ("use_files_of_the_running_stack", "check_overlays"):
        assert bash(f"PROJECT=shop; {function}")[0] == 1


# --- ./scripts/up on what exists -------------------------------------------------------------------------------------

BASE = "compose/base.yaml"


@pytest.mark.parametrize(
    ("made_with", "options", "lacks"),
    [
        (BASE, (), ""),
        ("compose.yaml", (), ""),
        (BASE, ("--drill",), ""),
        (f"{BASE} compose/drill.yaml", ("--drill",), ""),
        (f"{BASE} compose/staging.yaml", (), "--staging"),
        (f"{BASE} compose/single.yaml", (), "--single"),
        (f"{BASE} compose/staging.yaml compose/second-trader.yaml", ("--drill",), "--staging --second-trader"),
        (f"{BASE} compose/observability.yaml compose/single+observability.yaml", (), "--observability"),
        (f"{BASE} compose/own-strategy.yaml", (), "--config /my/node.json --code /my"),
        (f"{BASE} /mine/limits.yaml", (), "/mine/limits.yaml"),
    ],
)
def test_a_stack_is_not_made_anew_as_another_one(
    docker: Docker, up: Bash, made_with: str, options: tuple[str, ...], lacks: str
) -> None:
    docker.made_of(("redis-1", made_with))
    docker.answer("inspect*node.json*", "/my/node.json")
    docker.answer("inspect*user*", "/my")
    code, said = up("--check", *options)
    assert code == (1 if lacks else 0)
    if lacks:
        assert f'error: the stack "shop" was started with {lacks}' in said
        assert "./scripts/down" in said


def test_up_waits_for_nobody_and_disturbs_nobody(docker: Docker, up: Bash) -> None:
    docker.made_of(("redis-1", BASE))
    project = f"shop-{os.getpid()}"
    lock = Path("/", "tmp", f"{project}.operation.lock")
    try:
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            code, said = up(COMPOSE_PROJECT_NAME=project)
            assert (code, "another command is changing the stack" in said) == (1, True)
            assert up("--check", COMPOSE_PROJECT_NAME=project)[0] == 0, "a look needs no lock"
            # One that ./scripts/restore has started.
            said = up(COMPOSE_PROJECT_NAME=project, STACK_LOCKED=project)[1]
            assert "another command" not in said
    finally:
        lock.unlink()
    assert "compose up" not in docker.log


#: What ./scripts/certs renew and ./scripts/secrets rotate do before they need the lock.
STUBS = "".join(f"{name}() {{ :; }}; " for name in ("user_names", "need_secrets", "need_certificates"))
STUBS += "".join(f"ensure_{what}() {{ :; }}; " for what in ("engine", "compose", "images", "openssl"))


@pytest.mark.parametrize(
    ("libs", "command"),
    [
        ("certificates servers renewal", "renew admin"),
        ("acl servers rotation", "rotate_users all"),
    ],
)
def test_secrets_are_not_renewed_beside_planned_work(bash: Bash, tmp_path: Path, libs: str, command: str) -> None:
    script = f"LOCKS_DIR={tmp_path}; lock_secrets() {{ echo free; exit 3; }}; {STUBS}{command}"
    libs = f"log settings lock compose secrets {libs}"
    with (tmp_path / "shop.operation.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, said = bash(script, libs=libs)
        assert (code, "another command is changing the stack" in said) == (1, True)
        assert bash(script, libs=libs, STACK_LOCKED="shop") == (3, "free\n")
    assert bash(script, libs=libs) == (3, "free\n")


# --- what an operation does not overlook -----------------------------------------------------------------------------


def test_a_preference_that_was_left_behind_is_taken_back(docker: Docker, bash: Bash) -> None:
    docker.answer("ps *", "redis-1", "redis-2", "redis-3", "sentinel-1")
    docker.answer("exec *CONFIG SET replica-priority 100", "OK")
    docker.answer("exec *redis-1*CONFIG GET*", "replica-priority", "100")
    docker.answer("exec *redis-2*CONFIG GET*", "replica-priority", "1")
    docker.answer("exec *redis-3*CONFIG GET*", "replica-priority", "0")
    code, said = bash("PROJECT=shop; forget_old_preference")
    assert (code, "redis-2 was still preferred" in said) == (0, True)
    assert docker.log.count("CONFIG SET") == 1
    assert "shop-redis-2-1 sh /opt/redis-node/cli.sh <<< CONFIG SET replica-priority 100" in docker.log


def test_a_preference_that_cannot_be_taken_back_is_told(docker: Docker, bash: Bash) -> None:
    docker.fails("exec *")
    code, said = bash("PROJECT=shop SURVEY=$(mktemp -d) PREFERRED=redis-2; end_operation")
    assert (code, "warning: redis-2 keeps the replica-priority 1" in said) == (0, True)


@pytest.mark.parametrize("check", ["check_memory", "check_versions"])
def test_a_master_that_does_not_answer_passes_no_check(docker: Docker, bash: Bash, check: str) -> None:
    docker.answer("compose *config", "services:", "  redis-1:", "    image: redis:7", "      REDIS_MAXMEMORY: 512mb")
    docker.answer("run *", "Redis server v=7.0.15 sha=0")
    docker.fails("exec *")
    code, said = bash(f"PROJECT=shop MASTER=redis-1; {check} redis-1")
    assert (code, "redis-1 does not say" in said) == (1, True)


@pytest.mark.parametrize(
    ("listed", "said"),
    [("", ""), (" before-restore-20261125T000000Z", "before-restore-20261125T000000Z"), (None, "cannot be read")],
)
def test_data_that_were_put_aside_are_not_deleted_unannounced(
    docker: Docker, bash: Bash, listed: str | None, said: str
) -> None:
    docker.answer("volume inspect*")
    docker.answer("inspect*", "sha256:0")
    if listed is None:
        docker.fails("run *")
    else:
        docker.answer("run *shop_redis-2:/volume:ro*", *([listed] if listed else []))
    code, output = bash("PROJECT=shop MASTER=redis-1; tell_kept_data redis-2 shop_redis-2")
    assert code == 0
    assert said in output
    assert bool(output) == bool(said)


def test_an_exporter_is_no_node(docker: Docker, bash: Bash, tmp_path: Path) -> None:
    """Neither of those that are renewed among the replicas, nor of those that are asked what they replicate."""
    docker.answer("inspect *shop-redis-exporter-1", "running healthy")
    (tmp_path / "redis-2").write_text("role:slave\nloading:0\n")
    known = (
        f"PROJECT=shop SURVEY={tmp_path} MASTER=redis-1 NODES=(redis-1 redis-2)"
        " EXISTING=(redis-exporter redis-1 redis-2 sentinel-1);"
    )
    asked = "; ".join(f"next_of redis-exporter {other}" for other in ("redis-2", "redis-1", "sentinel-1"))
    assert bash(f"{known} broken() {{ :; }}; {asked}") == (0, "redis-2\nredis-1\nsentinel-1\n")
    assert bash(f"{known} lacks redis-exporter; broken redis-exporter; is_among_nodes redis-exporter") == (1, "")
    assert bash(f"{known} lacks redis-2") == (0, "does not follow redis-1\n")


@pytest.mark.parametrize(
    ("said", "answer"), [("", "is not well"), ("unhealthy: no Redis", "is not well"), ("healthy", "")]
)
def test_a_trader_that_starts_again_and_again_is_broken(bash: Bash, tmp_path: Path, said: str, answer: str) -> None:
    """So that a rollout begins with it, and does not wait for it."""
    (tmp_path / "trader").write_text(f"{said}\nstate=ready\n" if said else "")
    assert bash(f"SURVEY={tmp_path} EXISTING=(trader); broken trader") == (0, f"{answer}\n" if answer else "")


def test_a_copy_that_is_missing_altogether_is_missed(bash: Bash) -> None:
    known = "NODES=(redis-1 redis-2) SENTINELS=(sentinel-1) EXISTING=(redis-1 sentinel-1);"
    assert bash(f"{known} check_complete redis-2; echo goes on") == (0, "goes on\n")
    code, said = bash(f"{known} check_complete redis-1; echo goes on")
    assert (code, said.splitlines()[0]) == (1, "error: redis-2 has no container")


def test_a_container_that_was_never_started_is_in_nobodys_way(docker: Docker, bash: Bash) -> None:
    docker.answer("ps *status=created*", "0123 4567_shop-redis-2-1")
    docker.answer("rm *")
    code, said = bash("remove_half_made")
    assert (code, "removed the container 4567_shop-redis-2-1" in said) == (0, True)
    assert "rm 0123" in docker.log.splitlines()


def test_an_image_that_is_not_there_is_said(docker: Docker, bash: Bash) -> None:
    docker.answer("compose *config", "services:", "  redis-1:", "    image: redis:none")
    docker.fails("run *")
    code, said = bash("PROJECT=shop MASTER=redis-1; check_versions redis-1")
    assert (code, "the image redis:none is not there" in said) == (1, True)


def test_a_trader_that_does_not_run_is_not_started_unasked(bash: Bash) -> None:
    """It was stopped, or another one runs elsewhere with its id."""
    of_rollout = functions_of("rollout", "choose_changed", "choose_for_restart", "is_away")
    known = (
        "NODES=(redis-1) SENTINELS=(sentinel-1) OTHERS=() TRADERS=(trader trader-2)"
        " RUNNING=(redis-1 sentinel-1 trader-2) EXISTING=(redis-1 sentinel-1 trader-2) chosen=() services=();"
        " declare -A REASON=([redis-1]=x [trader]=new);"
        f" find_changes() {{ :; }}; {of_rollout};"
    )
    assert bash(f'{known} choose_changed >/dev/null; echo "${{chosen[*]}}"') == (0, "redis-1\n")
    assert bash(f'{known} services=(trader); choose_changed; echo "${{chosen[*]}}"') == (0, "trader\n")
    assert bash(f'{known} choose_for_restart >/dev/null; echo "${{chosen[*]}}"') == (0, "redis-1 sentinel-1 trader-2\n")
    code, said = bash(f"{known} choose_changed")
    assert (code, "./scripts/rollout trader would start it" in said) == (0, True)


SCALE = functions_of("scale", "check_nothing_else_differs", "forget_overlay")


@pytest.mark.parametrize(
    ("found", "pending"),
    [
        ({"redis-1": "three", "redis-2": "three"}, ""),
        # Interrupted half-way.
        ({"redis-1": "four", "redis-2": "three", "redis-4": "four"}, ""),
        ({"redis-1": "three", "redis-2": "older"}, "redis-2"),
        ({"redis-1": "three", "redis-2": "three", "redis-4": "older"}, "redis-4"),
        ({"redis-1": "three"}, "redis-2"),
    ],
)
def test_another_size_brings_nothing_else_along(
    docker: Docker, bash: Bash, found: dict[str, str], pending: str
) -> None:
    docker.answer("compose *five.yaml config --services", "redis-1", "redis-2", "redis-4")
    docker.answer("compose *five.yaml config --hash*", "redis-1 four", "redis-2 four", "redis-4 four")
    docker.answer("compose *config --services", "redis-1", "redis-2")
    docker.answer("compose *config --hash*", "redis-1 three", "redis-2 three")
    docker.answer("compose *config")
    docker.answer("ps *", *found)
    docker.answer("image inspect*", "sha256:0")
    docker.answer("inspect*config-hash*", *(f"{name} {settings} sha256:0 redis" for name, settings in found.items()))
    docker.answer("inspect*")
    code, said = bash(
        f"PROJECT=shop SURVEY=$(mktemp -d) ADDED=(redis-4 sentinel-5 sentinel-4); ensure_images() {{ :; }}; {SCALE}; "
        "check_nothing_else_differs; rm -r $SURVEY"
    )
    assert code == (1 if pending else 0)
    if pending:
        assert f"the settings or the image of {pending} differ" in said
        assert "./scripts/rollout" in said


@pytest.mark.parametrize("page", [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"], ids=lambda page: page.name)
def test_no_page_tells_to_make_a_stack_anew_without_its_overlays(page: Path) -> None:
    assert "docker compose up --detach" not in page.read_text()


# --- swarm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replicas", "running"),
    [(["1/1 (max 1 per node)", "1/1"], True), (["1/1", "0/1"], False), ([], False), (None, False)],
)
def test_services_run_only_if_swarm_says_so(
    docker: Docker, bash: Bash, replicas: list[str] | None, running: bool
) -> None:
    if replicas is None:
        docker.fails("service ls*")
    else:
        docker.answer("service ls*", *replicas)
    docker.answer("service inspect*", "later|completed")
    assert bash("all_running shop_")[0] == (0 if running else 1)
    assert bash("is_updated shop_redis-1 earlier spec")[0] == (0 if running else 1)


@pytest.mark.parametrize("said", ["earlier|completed", "later|updating", None])
def test_an_update_counts_only_when_it_is_over(docker: Docker, bash: Bash, said: str | None) -> None:
    docker.answer("service ls*", "1/1")
    if said is None:
        docker.fails("service inspect*")
    else:
        docker.answer("service inspect*", said)
    assert bash("is_updated shop_redis-1 earlier spec")[0] == 1


@pytest.mark.parametrize(
    ("deployed", "chosen", "refused"),
    [
        ("REDIS_TLS=yes", "staging", ""),
        ("NODE_IP=1", "swarm", ""),
        ("REDIS_TLS=yes", "swarm", "was deployed with --staging"),
        ("NODE_IP=1", "staging", "was deployed without --staging"),
        (None, "staging", "cannot be looked at"),
    ],
)
def test_a_deployment_changes_its_encryption_never_service_by_service(
    docker: Docker, bash: Bash, deployed: str | None, chosen: str, refused: str
) -> None:
    docker.answer("stack services*", "id")
    if deployed is None:
        docker.fails("service inspect*")
    else:
        docker.answer("service inspect*", "PATH=/bin", deployed)
    code, said = bash(f"use_overlay {chosen}; check_same_encryption")
    assert code == (1 if refused else 0)
    assert refused in said
