# shellcheck shell=bash
# The nodes and Sentinels that run, and what to ask them, for changes under way. Needs compose.sh, lock.sh and secrets.sh.

# Prints "SERVICE CONTAINER STATE" of all nodes and Sentinels, those that are down included.
servers() {
    stack_containers --all --format '{{ .Label "com.docker.compose.service" }} {{ .Names }} {{ .State }}' |
        awk '$1 ~ /^(redis|sentinel)-[0-9]+$/' | sort
}

# Fills NODES and SENTINELS with the containers. Everybody has to be there, or somebody would keep what is to be replaced.
check_servers() {
    local service container state user
    NODES=() SENTINELS=()
    while read -r service container state; do
        [[ -n $service ]] || continue
        [[ $state == running ]] ||
            fail "$service is down ($state), and would miss the change; nothing was changed" "start it first: docker start $container"
        user=$(ask "$container" ACL WHOAMI 2>&1) || user=
        case $user in
            admin) ;;
            default)
                fail "the stack \"$(project_name)\" runs without logins; nothing was changed" \
                    "start it with ./scripts/up --staging"
                ;;
            *)
                fail "$service does not let admin in; nothing was changed" \
                    "see ./scripts/logs $service; if its password file was replaced: docker restart $container"
                ;;
        esac
        if [[ $service == redis-[0-9]* ]]; then NODES+=("$container"); else SENTINELS+=("$container"); fi
    done <<<"$(servers)"
    ((${#NODES[@]})) || fail "the stack \"$(project_name)\" is not running" "start it with ./scripts/up --staging"
}

# As admin.
ask() { # ask <container> <argument of redis-cli>...
    local container=$1
    shift
    docker exec --interactive "$container" sh /opt/redis-node/cli.sh "$@" </dev/null
}

# Commands from standard input, one a line: for what must not be an argument.
tell() { docker exec --interactive "$1" sh /opt/redis-node/cli.sh | sed '/^$/d'; } # tell <container>

master_name() { docker exec "$1" printenv MASTER_NAME || echo mymaster; }

# Until a Sentinel could take part in a failover again, and sees all the others.
await_sentinel() { # await_sentinel <container>
    local deadline=$((SECONDS + 60)) name said=
    name=$(master_name "$1")
    while ((SECONDS < deadline)); do
        said=$(ask "$1" SENTINEL CKQUORUM "$name" 2>&1 || true)
        if [[ $said == "OK ${#SENTINELS[@]} usable"* ]] &&
            docker exec "$1" sh /opt/sentinel/healthcheck.sh >/dev/null 2>&1 &&
            ! ask "$1" SENTINEL MASTER "$name" | grep -A 1 -x flags | grep -q disconnected; then
            return
        fi
        sleep 0.2
    done
    fail "$1 has not come back to the others within 60 s ($said)" "see ./scripts/status; when it is mended, run this again"
}

# Prints "SERVICE CONTAINER PATH..." of all containers that run, with what they have mounted where.
mounts() {
    stack_containers --quiet |
        xargs -r docker inspect --format \
            '{{ index .Config.Labels "com.docker.compose.service" }} {{ slice .Name 1 }}{{ range .Mounts }} {{ .Destination }}{{ end }}'
}

restart_and_wait() { # restart_and_wait <container>
    local deadline=$((SECONDS + 60))
    docker restart "$1" >/dev/null
    until [[ $(docker inspect --format '{{ if .State.Health }}{{ .State.Health.Status }}{{ else }}healthy{{ end }}' "$1") == healthy ]]; do
        ((SECONDS < deadline)) || fail "$1 is not healthy 60 s after its restart" "see: docker logs $1"
        sleep 0.2
    done
}

# One change at a time.
lock_secrets() { hold "$(secrets_dir)/.lock" "another change of passwords or certificates is under way"; }

# Prints the users that a server has; fails if it does not say. One that is always there tells an answer from an error.
users_of() { # users_of <container>
    local users
    users=$(ask "$1" ACL USERS) && grep -qxF default <<<"$users" && printf '%s\n' "$users"
}
