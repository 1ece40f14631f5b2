# shellcheck shell=bash
# Builds the images whose inputs have changed. Each image carries the hash of its inputs as a label, so that nothing is
# built, not even from the cache, when nothing has changed.

IMAGE_LABEL=build-inputs

# ensure_images <service>...; services: redis-1, redis-upgrade, redis-clock, trader, trader-runtime, drill-tools, checks (in
# the order of their dependencies), redis-exporter, prometheus, alertmanager, swarm-host
ensure_images() {
    choose_bases
    [[ " $* " != *" redis-upgrade "* ]] || choose_upgrade_base
    [[ " $* " != *" prometheus "* ]] || choose_observability_bases
    [[ " $* " != *" swarm-host "* ]] || choose_base DEBIAN_IMAGE bookworm
    local service inputs stale=()
    for service in "$@"; do
        inputs=$("inputs_of_${service//-/_}")
        export "$(inputs_variable "$service")=$inputs"
        # An image that others start from was rebuilt: they follow, because their own inputs contain its hash.
        [[ $(image_label "$service") == "$inputs" ]] || stale+=("$service")
    done
    for service in "${stale[@]}"; do
        step "Building the image of $service"
        compose build "$service" </dev/null ||
            fail "building the image of $service failed" \
                "behind a proxy with its own certificate authority: set PIP_CERT to its certificate file"
    done
}

inputs_of_redis_1() { hash_of "$REDIS_IMAGE" redis-conf sentinel-conf; }
inputs_of_redis_upgrade() { hash_of "upgrade to $UPGRADE_REDIS_IMAGE" redis-conf sentinel-conf; }
inputs_of_redis_clock() { hash_of "$(docker image inspect --format "{{ .Id }}" "$(image_of redis-1)")" drills/clock; }
inputs_of_trader() { hash_of "$PYTHON_IMAGE" trader_node; }
inputs_of_trader_runtime() { hash_of "$PYTHON_IMAGE" trader_node/Dockerfile trader_node/requirements.lock; }
inputs_of_drill_tools() { hash_of "$(inputs_of_trader_runtime)" drills/Dockerfile; }
inputs_of_swarm_host() { hash_of "$DEBIAN_IMAGE" tests/swarm/Dockerfile tests/swarm/host.sh; }
inputs_of_checks() {
    hash_of "$(inputs_of_trader_runtime) $(inputs_of_redis_1)" tests/Dockerfile tests/requirements.lock
}

inputs_of_prometheus() {
    hash_of "$REDIS_EXPORTER_IMAGE $PROMETHEUS_IMAGE $ALERTMANAGER_IMAGE" \
        observability/{Dockerfile,redis-exporter} observability/prometheus/{entrypoint.sh,prometheus.yml,rules}
}
inputs_of_redis_exporter() { inputs_of_prometheus; }
inputs_of_alertmanager() { inputs_of_prometheus; }

# hash_of <text> <path>...: of the text and of all files' names and contents
hash_of() {
    local text=$1
    shift
    (
        cd "$ROOT" || exit
        echo "$text"
        find "$@" -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -c1-16
}

# The variable from which the compose file takes the label.
inputs_variable() {
    case $1 in
        redis-1) echo REDIS_BUILD_INPUTS ;;
        redis-upgrade) echo UPGRADE_BUILD_INPUTS ;;
        redis-clock) echo CLOCK_BUILD_INPUTS ;;
        trader) echo TRADER_BUILD_INPUTS ;;
        trader-runtime) echo RUNTIME_BUILD_INPUTS ;;
        drill-tools) echo DRILL_TOOLS_BUILD_INPUTS ;;
        checks) echo CHECKS_BUILD_INPUTS ;;
        redis-exporter | prometheus | alertmanager) echo OBSERVABILITY_BUILD_INPUTS ;;
        swarm-host) echo SWARM_HOST_BUILD_INPUTS ;;
    esac
}

image_label() {
    docker image inspect --format "{{ index .Config.Labels \"$IMAGE_LABEL\" }}" "$(image_of "$1")" 2>/dev/null || true
}

image_of() {
    local tag
    tag=$(setting IMAGE_TAG local)
    case $1 in
        redis-1) echo "nautilus-redis-ha/redis:$tag" ;;
        redis-upgrade) echo "nautilus-redis-ha/redis:$tag-upgrade" ;;
        redis-clock) echo "nautilus-redis-ha/redis:$tag-clock" ;;
        *) echo "nautilus-redis-ha/$1:$tag" ;;
    esac
}
