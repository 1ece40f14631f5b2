# shellcheck shell=bash
# What runs in the checks image: linters, types, tests without a stack. The working tree is mounted read-only, so every
# cache goes to /tmp.

# A project of its own, of this file alone: `compose run` makes the networks and volumes of all files that it is given, and
# those of the user's stack are not for a linter to make.
checks_compose() {
    docker compose --project-directory "$ROOT" --project-name "$DEFAULT_PROJECT-checks" -f "$ROOT/compose/test.yaml" "$@"
}

in_checks() {
    # As the caller: the tree need not be readable for anybody else.
    checks_compose run --rm --no-deps -T --user "$(id -u):$(id -g)" checks "$@" </dev/null
}

# Every combination of files that somebody may start.
check_compose_files() {
    step "Compose files"
    docker compose --project-directory . config --quiet
    local overlay pair
    for overlay in compose/*.yaml; do
        [[ $overlay != compose/base.yaml ]] || continue
        if [[ $overlay == *+* ]]; then
            # What only makes sense on top of two others.
            pair=$(basename "$overlay" .yaml)
            docker compose --project-directory . -f compose/base.yaml -f "compose/${pair%+*}.yaml" \
                -f "compose/${pair#*+}.yaml" -f "$overlay" config --quiet || fail "$overlay is not valid on top of $pair"
            continue
        fi
        TRADER_CONFIG=/dev/null TRADER_CODE_DIR=/tmp docker compose --project-directory . \
            -f compose/base.yaml -f "$overlay" config --quiet || fail "$overlay is not valid on top of compose/base.yaml"
    done
    docker compose --project-directory . -f compose/base.yaml -f compose/staging.yaml -f compose/second-trader.yaml \
        config --quiet || fail "compose/second-trader.yaml is not valid on top of compose/staging.yaml"
}

lint() {
    step "Linters and types"
    # shellcheck disable=SC2016 # expanded in the container
    in_checks sh -euc '
        ruff check --no-cache .
        ruff format --no-cache --check .
        mypy --cache-dir=/tmp/mypy
        shellcheck --external-sources $(grep -rlE --exclude="*.py" "^#!.*sh$|^# shellcheck shell=" scripts redis-conf sentinel-conf observability trader_node tests .ci)
        hadolint $(find . -name Dockerfile -not -path "./.venv/*")
        actionlint examples/ci/*.yml
    '
}

# Prometheus' own tool, in the image that runs them; the working tree, so that tests need not be in that image.
promtool() {
    docker run --rm --interactive --network none --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" \
        --volume "$ROOT/observability/prometheus:/opt/prometheus:ro" --workdir /opt/prometheus \
        --entrypoint promtool "$(image_of prometheus)" "$@"
}

check_alert_rules() {
    step "Alert rules"
    promtool check config prometheus.yml </dev/null >/dev/null
    (cd observability/prometheus && promtool test rules tests/*.yml </dev/null)
}

# Built with the types that Grafana generates from its schema; and every query is parsed by Prometheus' own parser.
check_dashboard() {
    step "Dashboard"
    in_checks python -m observability.grafana.dashboard | diff observability/grafana/dashboards/redis-ha.json - ||
        fail "observability/grafana/dashboards/redis-ha.json is not what observability/grafana/dashboard.py makes" \
            "write it anew: python -m observability.grafana.dashboard >observability/grafana/dashboards/redis-ha.json"
    in_checks python -m observability.grafana.dashboard --rules | promtool check rules
}

# With hosts of their own that can be cut off from each other: root, for that alone, in a container that reaches nobody.
in_drills() { checks_compose run --rm --no-deps -T drills "$@" </dev/null; }

# What pytest's option -m gets: without --long not the tests that take minutes, else everything.
marks() { ${LONG:-false} || echo "not long"; }

run_container_tests() {
    step "Tests without a stack: units, nodes and the page of the drills in a browser"
    in_checks python -m pytest -p no:cacheprovider tests/unit tests/node tests/page
    step "Tests without a stack: real Redis processes, killed, frozen and cut off"
    in_drills python -m pytest -p no:cacheprovider -m "$(marks)" tests/link
}
