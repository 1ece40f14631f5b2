# shellcheck shell=bash
# The tests that start the stack itself. They drive Docker, so they run on the host, in a virtual environment of their
# own, and beside a stack of the user: every name, address and port is different.

VENV=$ROOT/.venv
STACK_REQUIREMENTS=tests/requirements-stack.lock

ensure_test_environment() {
    local wanted
    wanted=$(sha256sum "$STACK_REQUIREMENTS" | cut -c1-16)
    if [[ -x $VENV/bin/pytest && $(cat "$VENV/requirements-hash" 2>/dev/null) == "$wanted" ]]; then return; fi
    step "Python environment for the stack tests in ${VENV#"$ROOT"/}"
    local python
    python=$(find_python)
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        --requirement "$STACK_REQUIREMENTS" </dev/null
    echo "$wanted" >"$VENV/requirements-hash"
}

# A Python that is new enough and can make virtual environments.
find_python() {
    local python
    python=$(usable_python) && { echo "$python" && return; }
    if is_root && has_apt; then
        step "Installing python3-venv" >&2
        { apt-get update --quiet </dev/null && apt_install python3 python3-venv; } >&2
        python=$(usable_python) && { echo "$python" && return; }
    fi
    fail "the stack tests need Python 3.11 or newer with venv" "install it (on Debian and Ubuntu: python3-venv)"
}

usable_python() {
    local python
    for python in python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

run_stack_tests() {
    if [[ ! -d tests/stack ]]; then
        note "there are no stack tests (tests/stack)"
        return
    fi
    local project=$DEFAULT_PROJECT-test
    # Two runs at once would tear down each other's stack.
    exec 9>"${TMPDIR:-/tmp}/$project.lock"
    flock --nonblock 9 || fail "another run of the stack tests is in progress on this machine" "wait until it has finished"
    local SOMETHING_RAN=false FAILED=()
    step "Stack tests"
    # Ports below 32768: the kernel gives those above to outgoing connections, and then one may be taken.
    COMPOSE_PROJECT_NAME=$project SUBNET_PREFIX=$(setting TEST_SUBNET_PREFIX 172.28.79) \
        REDIS_1_PORT=16386 REDIS_2_PORT=16387 REDIS_3_PORT=16388 \
        SENTINEL_1_PORT=26386 SENTINEL_2_PORT=26387 SENTINEL_3_PORT=26388 \
        stack_pytest tests/stack "$@"
    step "Tests of the staging template"
    COMPOSE_PROJECT_NAME=$project-staging SUBNET_PREFIX=$(setting TEST_STAGING_SUBNET_PREFIX 172.28.82) \
        stack_pytest tests/staging "$@"
    if ${LONG:-false}; then
        # Docker engines of their own in containers, and the staging stack in them as a swarm.
        step "Tests with three hosts"
        stack_pytest tests/swarm "$@"
    fi
    $SOMETHING_RAN || fail "no test matches: $*" "./scripts/test --help tells what can be given"
    ((${#FAILED[@]} == 0)) || fail "tests failed in ${FAILED[*]}" "each suite ends with a list of its failures, above"
}

# Runs a suite and adds it to FAILED if it did not pass: the others are run all the same.
stack_pytest() { # stack_pytest <suite> [argument of pytest]...
    local status=0
    "$VENV/bin/python" -m pytest -p no:cacheprovider -m "$(marks)" "$@" </dev/null || status=$?
    # Interrupted by the user.
    ((status != 2)) || exit 2
    # What the caller asked for may be in another suite alone.
    if ((status == 5 && $# > 1)); then return; fi
    SOMETHING_RAN=true
    ((status == 0)) || FAILED+=("$1")
}
