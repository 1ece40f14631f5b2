# shellcheck shell=bash
# Planned work on a running stack: what its parts say, what is missing before the next step may begin, and one container
# renewed at a time. Needs log.sh, settings.sh, lock.sh, compose.sh.

MASTER_NAME=mymaster
# Seconds for a question to one container, and between two looks at all of them.
ANSWER_S=10
LOOK_S=0.5
# A replica's priority: of the one that a switchover is to choose, and else (redis.conf's default).
IS_PREFERRED=1
NOT_PREFERRED=100

begin_operation() {
    PROJECT=$(project_name)
    stack_is_running || fail "the stack \"$PROJECT\" is not running" "start it with ./scripts/up"
    if [[ -z $(services_with_a_container --all | grep -E '^sentinel-[0-9]+$' || true) ]]; then
        fail "the stack \"$PROJECT\" has one Redis and no Sentinels: there is nobody to take over" "start it without --single"
    fi
    use_files_of_the_running_stack
    # Compose would make another network, and with it other addresses.
    check_subnet
    STEP_S=$(setting OPERATION_TIMEOUT_S 300)
    [[ $STEP_S =~ ^[1-9][0-9]*$ ]] || fail "OPERATION_TIMEOUT_S=$STEP_S is not a number of seconds" "for example 300"
    SURVEY=$(mktemp -d)
    trap end_operation EXIT
    take_lock
    remove_half_made
    forget_old_preference
}

# Compose makes a new container under another name, before it removes the old one. If it was interrupted in between, some
# of its versions would go on with the new one under that name, where nobody finds it.
remove_half_made() {
    local id name
    while read -r id name; do
        docker rm "$id" >/dev/null || fail "the container $name, left by an interrupted command, could not be removed" "see: docker ps --all"
        note "removed the container $name, which an interrupted command had made and not started"
    done < <(stack_containers --all --filter status=created --format '{{ .ID }} {{ .Names }}')
}

end_operation() {
    rm -rf "$SURVEY"
    [[ -z ${PREFERRED:-} ]] || set_priority "$PREFERRED" $NOT_PREFERRED ||
        warn "$PREFERRED keeps the replica-priority $IS_PREFERRED, and the next failover would choose it, however far behind it is" \
            "once it answers, run this again: that takes it back"
}

# A switchover that was killed could not take it back. Whoever holds the lock knows that no other one is under way.
forget_old_preference() {
    local service
    while read -r service; do
        [[ $(ask "$service" 'CONFIG GET replica-priority' | tail -n 1) == "$IS_PREFERRED" ]] || continue
        set_priority "$service" $NOT_PREFERRED || fail "$service does not take a priority" "see ./scripts/logs $service"
        note "$service was still preferred by a switchover that was interrupted; not any more"
    done < <(nodes_that_run)
}

# The files with which its containers were made; with the user's own node and what a test adds.
use_files_of_the_running_stack() {
    local file files
    files=$(files_of_containers) || fail "the containers of the stack \"$PROJECT\" cannot be listed" "see: docker ps"
    while read -r file; do
        if [[ -z $file || $file == "$ROOT/compose.yaml" ]] || uses_file "$file"; then continue; fi
        [[ -f $file ]] ||
            fail "the stack \"$PROJECT\" was started with $file, which is not there any more" "put it back, or use the folder from which it was started"
        [[ $file != "$ROOT/compose/own-strategy.yaml" ]] || use_own_node
        COMPOSE_FILES+=(-f "$file")
    done <<<"$files"
}

use_own_node() {
    local config code
    config=$(mounted_in_trader /etc/trader/node.json) code=$(mounted_in_trader /opt/user)
    # A setting of now is a change; without one, what the container has.
    TRADER_CONFIG=$(setting TRADER_CONFIG "$config")
    [[ -n $TRADER_CONFIG ]] ||
        fail "the stack \"$PROJECT\" was started with a node of your own, and its trader has no container that knows which" \
            "set TRADER_CONFIG and TRADER_CODE_DIR, as --config and --code of ./scripts/up"
    if [[ $TRADER_CONFIG != "$config" ]]; then code=$(dirname "$TRADER_CONFIG"); fi
    TRADER_CODE_DIR=$(setting TRADER_CODE_DIR "$code")
    if [[ $TRADER_CONFIG != "$config" || $TRADER_CODE_DIR != "$code" ]]; then
        check_own_node "$TRADER_CONFIG" "$TRADER_CODE_DIR"
        TRADER_CONFIG=$(realpath "$TRADER_CONFIG") TRADER_CODE_DIR=$(realpath "$TRADER_CODE_DIR")
    fi
    export TRADER_CONFIG TRADER_CODE_DIR
}

# --- members ---------------------------------------------------------------------------------------------------------

# NODES, SENTINELS, TRADERS and OTHERS: the services that the Compose files call for.
# shellcheck disable=SC2034 # OTHERS is read by rollout
read_members() {
    local services
    services=$(compose config --services | LC_ALL=C sort)
    mapfile -t NODES < <(grep -E '^redis-[0-9]+$' <<<"$services")
    mapfile -t SENTINELS < <(grep -E '^sentinel-[0-9]+$' <<<"$services")
    mapfile -t TRADERS < <(grep -E '^trader(-[0-9]+)?$' <<<"$services")
    mapfile -t OTHERS < <(grep -vE '^(redis|sentinel|trader)(-[0-9]+)?$' <<<"$services")
}

container_of() { echo "$PROJECT-$1-1"; }

# Fixed by compose/base.yaml.
address_of() {
    local prefix
    prefix=$(setting SUBNET_PREFIX 172.28.77)
    case $1 in
        redis-[0-9]*) echo "$prefix.1${1#redis-}" ;;
        sentinel-[0-9]*) echo "$prefix.2${1#sentinel-}" ;;
    esac
}

# Whether a word is among others.
is_among() { # is_among <word> <word>...
    local word=$1
    shift
    [[ " $* " == *" $word "* ]]
}

# Whatever has no container is not waited for: with a copy of the data less, the next one would be taken away.
check_complete() { # check_complete [service that is about to be made]...
    local service
    for service in "${NODES[@]}" "${SENTINELS[@]}"; do
        exists "$service" || is_among "$service" "$@" ||
            fail "$service has no container" "nothing was changed; make it first: ./scripts/rollout $service"
    done
}

check_is_node() { # check_is_node <name>
    is_among "$1" "${NODES[@]}" || fail "there is no node \"$1\"" "the nodes are ${NODES[*]}"
}

# --- what they say ---------------------------------------------------------------------------------------------------

# Commands for the server of a service, one per argument; prints its answers, nothing if there is none.
ask() { # ask <service> <command>...
    local service=$1
    shift
    printf '%s\n' "$@" |
        timeout "$ANSWER_S" docker exec --interactive "$(container_of "$service")" sh /opt/redis-node/cli.sh 2>/dev/null |
        tr -d '\r' || true
}

# Asks everybody at the same time. Afterwards MASTER is the node that the Sentinels name (empty: no majority answers),
# EXISTING the services that have a container, RUNNING those whose container was not stopped, and the functions below tell
# of this moment.
survey() {
    local service
    rm -f "$SURVEY"/*
    mapfile -t EXISTING < <(services_with_a_container --all)
    mapfile -t RUNNING < <(services_with_a_container)
    for service in "${NODES[@]}"; do
        ! exists "$service" || ask "$service" 'INFO replication' 'INFO persistence' >"$SURVEY/$service" &
    done
    for service in "${SENTINELS[@]}"; do
        ! exists "$service" || ask "$service" "SENTINEL CKQUORUM $MASTER_NAME" "SENTINEL MASTER $MASTER_NAME" >"$SURVEY/$service" &
    done
    for service in "${TRADERS[@]}"; do
        ! exists "$service" || ask_trader "$service" >"$SURVEY/$service" &
    done
    wait
    MASTER=$(named_master)
}

services_with_a_container() { # services_with_a_container [--all]
    stack_containers "$@" --format '{{ .Label "com.docker.compose.service" }}'
}

exists() { is_among "$1" "${EXISTING[@]}"; }

# The first line is its healthcheck's reason, the others are the link's state.
ask_trader() {
    # shellcheck disable=SC2016 # expanded in the container
    timeout "$ANSWER_S" docker exec "$(container_of "$1")" sh -c \
        'sh /opt/trader/healthcheck.sh; cat "${STATE_DIR:-/run/trader}/link" 2>/dev/null || echo state=ready' 2>/dev/null || true
}

# The highest epoch is the newest truth once a majority has answered.
named_master() {
    local sentinel node address listed=0
    for sentinel in "${SENTINELS[@]}"; do ! exists "$sentinel" || listed=$((listed + 1)); done
    address=$(for sentinel in "${SENTINELS[@]}"; do
        [[ ! -s $SURVEY/$sentinel ]] || awk '
            field == "ip" { ip = $0 }
            field == "config-epoch" { epoch = $0 }
            { field = $0 }
            END { if (ip != "" && epoch != "") print epoch, ip }' "$SURVEY/$sentinel"
    done | sort -rn | awk -v listed="$listed" 'NR == 1 { ip = $2 } END { if (NR * 2 > listed) print ip }')
    [[ -n $address ]] || return 0
    for node in "${NODES[@]}"; do
        [[ $(address_of "$node") != "$address" ]] || echo "$node"
    done
}

# What is wrong with a service, in words; nothing if nothing is. A service that may be away is not counted on.
lacks() { # lacks <service> [service that may be away]
    case $1 in
        redis-[0-9]*) node_lacks "$@" ;;
        sentinel-[0-9]*) sentinel_lacks "$@" ;;
        trader*) trader_lacks "$1" ;;
        *) other_lacks "$1" ;;
    esac
}

node_lacks() {
    [[ -n $MASTER ]] || { echo "no majority of the Sentinels names a master among ${NODES[*]}" && return; }
    [[ -f $SURVEY/$1 ]] || { echo "has no container" && return; }
    local replicas=0 node
    for node in "${NODES[@]}"; do
        [[ $node == "$MASTER" || $node == "${2:-}" ]] || ! exists "$node" || replicas=$((replicas + 1))
    done
    awk -F: -v me="$1" -v master="$MASTER" -v address="$(address_of "$MASTER")" -v replicas="$replicas" '
        { value[$1] = $2 }
        /^slave[0-9]+:.*state=online/ { online++ }
        END {
            if (!("role" in value)) print "does not answer"
            else if (value["loading"] != "0") print "loads its data"
            else if (value["aof_last_write_status"] == "err") print "cannot write its AOF"
            else if (me == master) {
                if (value["role"] != "master") print "is named by the Sentinels and is not a master"
                else if (online < replicas) print "has " online + 0 " of " replicas " replicas in sync"
            }
            else if (value["role"] == "master") print "says that it is a master, and the Sentinels name " master
            else if (value["master_host"] != address) print "does not follow " master
            else if (value["master_link_status"] != "up") print "is not connected to " master
            else if (value["slave_priority"] == 0) print "is not electable: its first copy of the data is not complete"
        }' "$SURVEY/$1"
}

sentinel_lacks() {
    [[ -f $SURVEY/$1 ]] || { echo "has no container" && return; }
    local others=-1 sentinel
    for sentinel in "${SENTINELS[@]}"; do ! exists "$sentinel" || others=$((others + 1)); done
    awk -v master="$MASTER" -v address="$(address_of "$MASTER")" -v others="$others" '
        NR == 1 { quorum = $0 }
        field != "" { value[field] = $0; field = ""; next }
        NR > 1 { field = $0 }
        END {
            if (quorum == "") print "does not answer"
            else if (quorum !~ /^OK/) print quorum
            else if (value["ip"] != address) print "names " value["ip"] " as the master, not " master
            else if (value["flags"] ~ /down|failover|disconnected/) print "sees " master " as " value["flags"]
            else if (value["num-other-sentinels"] < others)
                print "knows " value["num-other-sentinels"] " of " others " other Sentinels"
        }' "$SURVEY/$1"
}

trader_lacks() {
    [[ -f $SURVEY/$1 ]] || { echo "has no container" && return; }
    awk -F= '
        NR == 1 { health = $0 }
        $1 == "state" { state = $2 }
        END {
            if (health == "") print "does not answer"
            else if (health !~ /^healthy/) print health
            else if (state != "ready") print "its link is " state
        }' "$SURVEY/$1"
}

other_lacks() {
    local state
    state=$(docker inspect --format '{{ .State.Status }} {{ if .State.Health }}{{ .State.Health.Status }}{{ end }}' \
        "$(container_of "$1")" 2>/dev/null) || { echo "has no container" && return; }
    [[ $state =~ ^running\ (healthy)?$ ]] || echo "is $state"
}

# What keeps the stack from doing without one service; nothing if it can. Without an argument: what is not as it should be.
lacking() { # lacking [service that may be away]
    local service reason
    for service in "${NODES[@]}" "${SENTINELS[@]}" "${TRADERS[@]}"; do
        [[ $service != "${1:-}" ]] || continue
        exists "$service" || continue
        # A trader that somebody has stopped has nothing to lose.
        [[ $service != trader* ]] || is_among "$service" "${RUNNING[@]}" || continue
        reason=$(lacks "$service" "${1:-}")
        [[ -z $reason ]] || { echo "$service $reason" && return; }
    done
}

# Looks again until nothing is lacking; afterwards LACKING says what was lacking last. Fails when it takes too long, or a
# container ends again and again.
await_whole() { # await_whole [--without <service>] [service that was just started]
    local without='' service deadline=$((SECONDS + STEP_S))
    if [[ ${1:-} == --without ]]; then without=$2 && shift 2; fi
    service=${1:-}
    while :; do
        survey
        LACKING=$(lacking "$without")
        if [[ -z $LACKING && -n $service ]]; then
            LACKING=$(lacks "$service")
            LACKING=${LACKING:+$service $LACKING}
        fi
        [[ -n $LACKING ]] || return 0
        if [[ -n $service ]] && ends_again_and_again "$service"; then
            LACKING="$service does not start: $(last_words "$service")"
            return 1
        fi
        ((SECONDS < deadline)) || return 1
        sleep "$LOOK_S"
    done
}

ends_again_and_again() {
    local count
    count=$(docker inspect --format '{{ .RestartCount }}' "$(container_of "$1")" 2>/dev/null) || return 1
    ((count >= 3))
}

last_words() { docker logs --tail 3 "$(container_of "$1")" 2>&1 | grep . | tail -n 2 | paste -sd ' ' | cut -c1-300; }

# --- what would be lost ----------------------------------------------------------------------------------------------

# Data that were put aside lie beside those in use; they may be the only copy of what is in them.
tell_kept_data() { # tell_kept_data <service> <its volume>
    local kept
    docker volume inspect "$2" >/dev/null 2>&1 || return 0
    # shellcheck disable=SC2016 # expanded in the container
    kept=$(timeout 60 docker run --rm --network none --user 0:0 --volume "$2:/volume:ro" --entrypoint sh \
        "$(docker inspect --format '{{ .Image }}' "$(container_of "${MASTER:-${NODES[0]}}")")" -c '
        for each in /volume/before-restore-* /volume/damaged-appendonlydir*; do
            [ ! -e "$each" ] || printf " %s" "${each#/volume/}"
        done' 2>/dev/null </dev/null) || kept=" (its volume cannot be read)"
    [[ -z $kept ]] || warn "what was put aside on the volume of $1 goes with it:$kept"
}

# --- what is done ----------------------------------------------------------------------------------------------------

set_priority() { # set_priority <node> <priority>
    [[ $(ask "$1" "CONFIG SET replica-priority $2") == OK ]]
}

# A Sentinel's view of a node's priority.
priority_at() { # priority_at <sentinel> <node>
    ask "$1" "SENTINEL REPLICAS $MASTER_NAME" | awk -v address="$(address_of "$2")" '
        field == "ip" { ip = $0 }
        field == "slave-priority" && ip == address { print }
        { field = $0 }'
}

# Hands the master's role over, to a given node or to the one that the Sentinel chooses. Needs a survey; afterwards MASTER
# is the new master and the old one is none.
switch_over() { # switch_over [node] [sentinel]
    local target=${1:-} sentinel=${2:-} old=$MASTER answer='' deadline=$((SECONDS + STEP_S)) began
    [[ -n $sentinel ]] || sentinel=${SENTINELS[0]}
    if [[ -n $target ]]; then prefer "$target" "$sentinel"; fi
    until [[ $answer == OK ]]; do
        # It refuses while an earlier failover has not been closed, and where no replica has answered lately.
        answer=$(ask "$sentinel" "SENTINEL FAILOVER $MASTER_NAME")
        ((SECONDS < deadline)) ||
            fail "$sentinel begins no switchover: ${answer:-no answer}" "nothing was changed; see ./scripts/status"
        [[ $answer == OK ]] || sleep "$LOOK_S"
    done
    began=$SECONDS
    step "$sentinel hands over from $old"
    # The old one need not be well: its disk may be full, or its Redis too old to read a copy of the new master's data.
    until survey && [[ -n $MASTER && $MASTER != "$old" && -z $(lacks "$MASTER" "$old") ]] && ! grep -qs '^role:master' "$SURVEY/$old"; do
        ((SECONDS < deadline)) ||
            fail "the switchover from $old has not ended after $((SECONDS - began)) s (master: ${MASTER:-none})" "see ./scripts/status"
        sleep 0.2
    done
    if [[ -n ${PREFERRED:-} ]]; then set_priority "$PREFERRED" $NOT_PREFERRED && PREFERRED=''; fi
    [[ -z $target || $MASTER == "$target" ]] ||
        fail "the master's role went from $old to $MASTER and not to $target" "run it again"
}

# Of the replicas a Sentinel takes the one with the lowest priority.
prefer() { # prefer <node> <sentinel>
    local deadline=$((SECONDS + 30))
    PREFERRED=$1
    set_priority "$1" $IS_PREFERRED || fail "$1 does not take a priority" "see ./scripts/logs $1"
    until [[ $(priority_at "$2" "$1") == "$IS_PREFERRED" ]]; do
        ((SECONDS < deadline)) || fail "$2 does not see the priority of $1 within 30 s" "nothing was changed; see ./scripts/status"
        sleep 0.2
    done
}

# Replaces the container of a service by one with the settings and the image of now; its volume and address stay.
renew() { # renew <service>
    local said options=(--detach --no-build)
    touches_nothing_else "$1" || options+=(--no-deps)
    if ! said=$(compose up "${options[@]}" "$1" </dev/null 2>&1); then
        fail "$1 could not be started" "$(tail -n 1 <<<"$said")"
    fi
}

# What Compose would do to start a service.
plan_of() { compose --dry-run up --detach --no-build "$@" </dev/null 2>&1; } # plan_of [option]... <service>

# Whether Compose would leave everything else as it is, what this service depends on. With --no-deps it leaves the
# dependencies out of the hash on the container, and would take a trader for changed from then on (seen with 2.26).
touches_nothing_else() { # touches_nothing_else <service>
    local plan
    plan=$(plan_of "$1") || return
    plan=$(grep -E ' (Creat|Recreat|Start)' <<<"$plan" | grep -vF "$(container_of "$1") ") || true
    [[ -z $plan ]]
}
