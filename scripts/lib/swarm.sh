# shellcheck shell=bash
# The stack in a swarm: what is checked before, what is sent, what is waited for. Needs log.sh, settings.sh, compose.sh and
# images.sh.

# Prints the stack file, of all services or of those that are named.
render() { # render [service]...
    compose config --format json | python3 "$ROOT/scripts/lib/stack_file.py" "$@" ||
        fail "this stack cannot be expressed for Swarm (above)"
}

# Sends it to the swarm. No image is looked up in a registry: every host has the one of this tag.
send() { # send [service]...
    local said
    said=$(render "$@" | docker stack deploy --resolve-image never --compose-file - "$(project_name)" 2>&1) ||
        fail "docker stack deploy failed" "$said"
}

# Sentinels first, so that the nodes find them when they start.
services() {
    local all
    all=$(compose config --services | LC_ALL=C sort)
    grep '^sentinel' <<<"$all"
    grep -v '^sentinel' <<<"$all"
}

need_python() {
    command -v python3 >/dev/null || fail "python3 is missing" "install it: ./scripts/swarm needs nothing but its standard library"
}

need_manager() {
    [[ $(docker info --format '{{.Swarm.ControlAvailable}}' 2>/dev/null) == true ]] ||
        fail "this Docker engine is no manager of a swarm" \
            "set up the hosts as in docs/swarm.md, or point DOCKER_HOST or a Docker context at a manager"
}

check_addresses() {
    local number name address seen=" "
    for number in 1 2 3; do
        name=SWARM_HOST_$number
        address=$(setting "$name")
        [[ $address =~ ^[0-9]{1,3}(\.[0-9]{1,3}){3}$ ]] ||
            fail "$name=$address is no IPv4 address" "give the address of host $number in the private network of the three hosts"
        [[ $seen != *" $address "* ]] || fail "$name=$address is another host's address already" "each host has its own"
        seen+="$address "
    done
}

# Exactly one host for each node, and for the trader.
check_labels() {
    local label count
    for label in redis-ha.host=1 redis-ha.host=2 redis-ha.host=3 redis-ha.trader=yes; do
        count=$(docker node ls --quiet --filter "node.label=$label" | wc -l)
        ((count == 1)) ||
            fail "$count hosts have the label $label, and it has to be one" \
                "docker node update --label-add $label HOST (or --label-rm ${label%=*} HOST); docker node ls names the hosts"
    done
}

check_images() {
    local image
    for image in "$(image_of redis-1)" "$(image_of trader)"; do
        docker image inspect "$image" >/dev/null 2>&1 ||
            fail "this host has no image $image" \
                "build it (./scripts/up does), then bring it to every host: docker save $image | ssh HOST docker load"
    done
}

# One service after the other: half of them would talk TLS and the others not.
check_same_encryption() {
    local services
    # No service at all, and inspect fails.
    services=$(docker stack services --quiet "$(project_name)" | xargs docker service inspect --format \
        '{{range .Spec.TaskTemplate.ContainerSpec.Env}}{{println .}}{{end}}') ||
        fail "the services of the stack \"$(project_name)\" cannot be looked at" "see: docker stack services $(project_name)"
    if uses_file "$ROOT/compose/staging.yaml"; then
        grep -qx REDIS_TLS=yes <<<"$services" ||
            fail "the stack \"$(project_name)\" was deployed without --staging" \
                "leave it out; or first ./scripts/swarm down (its data stays), then deploy --staging"
    elif grep -qx REDIS_TLS=yes <<<"$services"; then
        fail "the stack \"$(project_name)\" was deployed with --staging" \
            "add --staging; or first ./scripts/swarm down (its data stays), then deploy without"
    fi
}

stack_exists() { docker stack ls --format '{{.Name}}' | grep -qxF "$(project_name)"; }

need_stack() {
    stack_exists || fail "there is no stack \"$(project_name)\" in this swarm" "see: docker stack ls"
}

# Sends one service and waits until Swarm has replaced its task, where anything of it has changed.
update_service() {
    local name before began
    name=$(project_name)_$1
    before=$(docker service inspect --format '{{json .Spec}}' "$name" 2>/dev/null || true)
    began=$(update_began "$name")
    send "$1"
    [[ $(docker service inspect --format '{{json .Spec}}' "$name") != "$before" ]] || return 0
    step "Updating $1"
    wait_until "$1 has been replaced (see: docker service ps $name)" "$(setting UP_TIMEOUT_S 180)" is_updated "$name" "$began" "$before"
}

update_began() { docker service inspect --format '{{with .UpdateStatus}}{{.StartedAt}}{{end}}' "$1" 2>/dev/null || true; }

is_updated() { # is_updated <service> <when the update before this one began> <its specification then; empty: it is new>
    local said
    said=$(docker service inspect --format '{{with .UpdateStatus}}{{.StartedAt}}|{{.State}}{{end}}' "$1") || return 1
    [[ -z $3 || ${said%'|'*} != "$2" ]] || return 1
    case ${said##*'|'} in
        completed | '') all_running "$1" ;;
        paused) fail "the update of $1 has failed: $(docker service inspect --format '{{.UpdateStatus.Message}}' "$1")" \
            "see: docker service ps --no-trunc $1" ;;
        *) return 1 ;;
    esac
}

wait_until_running() { # wait_until_running <seconds>
    wait_until "all services run (see: docker stack ps --no-trunc $(project_name))" "$1" all_running "$(project_name)_"
}

all_running() { # all_running <beginning of the services' names>
    local replicas
    replicas=$(docker service ls --filter "name=$1" --format '{{.Replicas}}') || return 1
    [[ -n $replicas ]] && ! grep -qv '^1/1' <<<"$replicas"
}

no_tasks() { [[ -z $(docker stack ps --quiet "$(project_name)" 2>/dev/null) ]]; }

wait_until() { # wait_until <what> <seconds> <command> [argument]...
    local what=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@"; do
        ((SECONDS < deadline)) || fail "not in time: $what"
        sleep 0.5
    done
}

# Those of earlier deployments. Swarm itself refuses to remove one that is in use.
remove_old_secrets() {
    local secret
    for secret in $(docker secret ls --quiet --filter "label=com.docker.stack.namespace=$(project_name)"); do
        docker secret rm "$secret" >/dev/null 2>&1 || true
    done
}

hosts() {
    # shellcheck disable=SC2016 # a Go template
    local labels='{{range $name, $value := .Spec.Labels}} {{$name}}={{$value}}{{end}}'
    docker node ls --quiet | xargs docker node inspect --format \
        "    {{.Description.Hostname}} {{.Status.Addr}} {{.Status.State}}{{with .ManagerStatus}}, manager {{.Reachability}}{{end}},$labels"
}

# The id of this engine's container of a service, or of the services whose names begin so.
container_here() { docker ps --quiet --filter "name=^$(project_name)_$1" | head -n 1; }

show_sentinels() {
    local sentinel
    sentinel=$(container_here sentinel-)
    [[ -n $sentinel ]] || { note "no Sentinel on this host" && return; }
    step "Sentinels"
    docker exec "$sentinel" sh /opt/redis-node/cli.sh SENTINEL CKQUORUM mymaster </dev/null
    docker exec "$sentinel" sh /opt/redis-node/cli.sh SENTINEL GET-MASTER-ADDR-BY-NAME mymaster </dev/null
}

show_trader() {
    local trader
    trader=$(container_here trader.)
    [[ -n $trader ]] || { note "the trader is on another host: ./scripts/swarm status there says more" && return; }
    docker exec "$trader" python -m trader_node.status </dev/null
}
