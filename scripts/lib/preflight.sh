# shellcheck shell=bash
# Checks before anything is started. They change nothing, and each names the setting, its value and what to do.

check_subnet() {
    local prefix network subnet
    prefix=$(setting SUBNET_PREFIX 172.28.77)
    [[ $prefix =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$ ]] ||
        fail "SUBNET_PREFIX=$prefix is not the first three parts of an IPv4 address" "for example SUBNET_PREFIX=172.28.77"
    # shellcheck disable=SC2016 # a Go template
    local networks='{{ $name := .Name }}{{ range .IPAM.Config }}{{ $name }} {{ .Subnet }}{{ "\n" }}{{ end }}'
    while read -r network subnet; do
        [[ $subnet == *.*/* ]] || continue
        if [[ $network == "$(project_name)_stack" ]]; then
            [[ $subnet == "$prefix.0/24" ]] ||
                fail "SUBNET_PREFIX=$prefix, but the stack \"$(project_name)\" runs in $subnet" \
                    "stop it first (./scripts/down); its data moves along"
            continue
        fi
        if subnets_overlap "$prefix.0/24" "$subnet"; then
            fail "the subnet $prefix.0/24 overlaps with the Docker network \"$network\" ($subnet)" \
                "set SUBNET_PREFIX to a free one, for example SUBNET_PREFIX=172.28.78, or remove that network"
        fi
    done < <(docker network ls --quiet | xargs -r docker network inspect --format "$networks")
}

subnets_overlap() { # subnets_overlap <a.b.c.d/len> <a.b.c.d/len>
    local shorter=$((${1#*/} < ${2#*/} ? ${1#*/} : ${2#*/}))
    local mask=$(((0xffffffff << (32 - shorter)) & 0xffffffff))
    (((($(address_number "${1%/*}")) & mask) == (($(address_number "${2%/*}")) & mask)))
}

address_number() {
    local IFS=. part
    read -ra part <<<"$1"
    echo $(((10#${part[0]} << 24) + (10#${part[1]} << 16) + (10#${part[2]} << 8) + 10#${part[3]}))
}

# check_ports <setting> <default> ...
check_ports() {
    if stack_is_running; then return; fi
    local name port
    while (($#)); do
        name=$1 port=$(setting "$1" "$2")
        shift 2
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            fail "$name=$port: this port is already in use on 127.0.0.1" "set $name to a free port, or stop what uses it"
        fi
    done
}

# A single instance takes redis-1 as it is. After a failover the newest data is on another node, and Sentinel, who knows,
# would not be asked.
check_single_is_safe() {
    if docker volume inspect "$(project_name)_sentinel-1" >/dev/null 2>&1; then
        fail "the project \"$(project_name)\" has run with failover; as a single instance it could continue on old data" \
            "use another COMPOSE_PROJECT_NAME (and SUBNET_PREFIX) for the single instance," \
            "or delete this project's data: ./scripts/down --volumes"
    fi
}

# Sentinels remember each other: two that are never started again would be counted, and of the other three none could be
# spared for a failover. And a running stack is not made anew all at once.
check_size() { # check_size <with compose/five.yaml: true or false>
    local container volume
    container=$(docker ps --all --quiet --filter "name=^$(project_name)-redis-4-1\$")
    volume=$(docker volume ls --quiet --filter "name=^$(project_name)_redis-4\$")
    if ! $1 && [[ -n $container$volume ]]; then
        fail "the stack \"$(project_name)\" has four nodes and five Sentinels" \
            "add --five; ./scripts/scale 3 3 takes them away while it runs"
    fi
    if $1 && [[ -z $container ]] && stack_is_running; then
        fail "the stack \"$(project_name)\" runs without the nodes of --five" \
            "./scripts/scale 4 5 adds them one by one, while it trades"
    fi
}

# Without one of its overlays a stack would be made anew all at once, as another one: without TLS, for example, and with ports.
check_overlays() {
    local file files config code missing=() unknown=()
    files=$(files_of_containers) || fail "the containers of the stack \"$(project_name)\" cannot be listed" "see: docker ps"
    while read -r file; do
        case $file in
            '' | "$ROOT/compose.yaml") ;;
            # Those come with the two overlays that they are for.
            "$ROOT"/compose/*+*.yaml) ;;
            "$ROOT/compose/own-strategy.yaml")
                config=$(mounted_in_trader /etc/trader/node.json) code=$(mounted_in_trader /opt/user)
                uses_file "$file" || missing+=("--config ${config:-FILE}" "--code ${code:-DIRECTORY}")
                ;;
            "$ROOT"/compose/*.yaml) uses_file "$file" || missing+=("--$(basename "$file" .yaml)") ;;
            *) uses_file "$file" || unknown+=("$file") ;;
        esac
    done <<<"$files"
    ((!${#unknown[@]})) ||
        fail "the stack \"$(project_name)\" was started with ${unknown[*]}, which ./scripts/up does not use" \
            "change it as it was started, or first stop it with ./scripts/down (its data stays)"
    ((!${#missing[@]})) ||
        fail "the stack \"$(project_name)\" was started with ${missing[*]}: without, its containers would be made anew all at once" \
            "add ${missing[*]}" "or, if it is not to have that any more, first stop it with ./scripts/down (its data stays)"
}

# What Redis wants of the kernel below the containers; it runs without.
check_kernel() {
    # Another machine's, behind DOCKER_HOST or in Docker Desktop, cannot be seen from here.
    [[ $(uname -s) == Linux && -z ${DOCKER_HOST:-} ]] || return 0
    local value
    value=$(kernel_value proc/sys/vm/overcommit_memory 1)
    [[ $value == 1 ]] ||
        warn "vm.overcommit_memory=$value: with little memory free Redis cannot fork, so no AOF is rewritten and no replica copied" \
            "as root: sysctl vm.overcommit_memory=1; to keep it: a line of that in /etc/sysctl.d/redis.conf"
    value=$(kernel_value sys/kernel/mm/transparent_hugepage/enabled)
    [[ $value != *"[always]"* ]] ||
        warn "transparent huge pages are always on: Redis needs more memory, and answers late after a fork" \
            "as root: echo madvise >/sys/kernel/mm/transparent_hugepage/enabled; to keep it: transparent_hugepage=madvise as a kernel parameter"
    value=$(kernel_value proc/sys/net/core/somaxconn 511)
    ((value >= 511)) ||
        warn "net.core.somaxconn=$value: when many clients come back at once, after a failover, connections are dropped" \
            "as root: sysctl net.core.somaxconn=1024; to keep it: a line of that in /etc/sysctl.d/redis.conf"
}

kernel_value() { # kernel_value <path> [what to assume where there is none]
    cat "${KERNEL_ROOT:-}/$1" 2>/dev/null || printf '%s\n' "${2-}"
}

check_second_trader() {
    local id
    id=$(setting TRADER_2_ID TRADER-002)
    [[ $id != "$(setting TRADER_ID TRADER-001)" ]] ||
        fail "TRADER_2_ID=$id is TRADER_ID as well: each trader needs an id of its own" "for example TRADER_2_ID=TRADER-002"
}

# Compose takes a relative path from the repository's root.
check_alertmanager_config() {
    local file
    file=$(setting ALERTMANAGER_CONFIG)
    [[ -z $file ]] || (cd "$ROOT" && [[ -f $file ]]) ||
        fail "ALERTMANAGER_CONFIG=$file: no such file" "start from a copy of observability/alertmanager.yml"
}

check_own_node() { # check_own_node <config file> <code directory>
    [[ -f $1 ]] || fail "TRADER_CONFIG=$1: no such file" "give the JSON file of your node"
    [[ -d $2 ]] || fail "TRADER_CODE_DIR=$2: no such directory" "give the directory with the modules that $1 names"
}
