# shellcheck shell=bash
# Which containers differ from the settings and images of now, and renewing them one after another. Needs operations.sh
# and images.sh.

# --- what differs ----------------------------------------------------------------------------------------------------

# WANTED and FOUND: a hash of the settings by service; REASON: what differs, by service.
find_changes() {
    declare -gA WANTED=() FOUND=() REASON=()
    local service hash id image name
    compose config >"$SURVEY/.config"
    while read -r service hash; do WANTED[$service]=$hash; done < <(compose config --hash '*')
    while read -r service hash id image; do
        FOUND[$service]=$hash
        name=$(docker image inspect --format '{{ .Id }}' "$image" 2>/dev/null || true)
        # A name may have been given to another image since.
        [[ $name == "$id" ]] || REASON[$service]="a new image $image"
    done < <(stack_containers --all --quiet | xargs -r docker inspect --format \
        '{{ index .Config.Labels "com.docker.compose.service" }} {{ index .Config.Labels "com.docker.compose.config-hash" }} {{ .Image }} {{ .Config.Image }}')
    for service in "${NODES[@]}" "${SENTINELS[@]}" "${OTHERS[@]}" "${TRADERS[@]}"; do
        if [[ ! -v FOUND[$service] ]]; then
            REASON[$service]="is new"
        elif [[ ${FOUND[$service]} != "${WANTED[$service]}" ]] && would_be_renewed "$service"; then
            REASON[$service]=$(difference_of "$service")
        fi
    done
}

# One that was renewed with --no-deps has another hash though nothing differs, see touches_nothing_else.
would_be_renewed() { # would_be_renewed <service>
    local plan
    plan=$(plan_of --no-deps "$1") || return 0
    [[ $plan =~ \ (Creat|Recreat) ]]
}

# In words. Values that may hold a password are not shown.
difference_of() { # difference_of <service>
    # shellcheck disable=SC2016 # a Go template
    local as_it_is='{{ range .Config.Env }}environment {{ . }}{{ "\n" }}{{ end }}image {{ .Config.Image }}
mem_limit {{ .HostConfig.Memory }}
cpus {{ .HostConfig.NanoCpus }}
pids_limit {{ .HostConfig.PidsLimit }}'
    {
        docker inspect --format "$as_it_is" "$(container_of "$1")"
        echo --
        cat "$SURVEY/.config"
    } | awk -v wanted="  $1:" '
        function say(name, from, to) {
            if (from == to) return
            if (name ~ /PASSWORD|URL|SECRET|TOKEN/) text = name " changes"
            else if (length(from to) > 60) text = name " changes"
            else text = name ": " (from == "" ? "(none)" : from) " -> " (to == "" ? "(none)" : to)
            said = said (said == "" ? "" : ", ") text
        }
        $0 == "--" && !second { second = 1; next }
        !second && $1 == "environment" { sub(/^environment /, ""); at = index($0, "="); if (at) is[substr($0, 1, at - 1)] = substr($0, at + 1); next }
        !second { is_limit[$1] = $2; next }
        /^[a-z]/ { section = $1 }
        section != "services:" { next }
        /^  [^ ]/ { inside = ($0 == wanted); part = "" }
        !inside { next }
        /^    [^ ]/ { part = $1 }
        part == "environment:" && /^      [^ ]/ {
            name = $1; sub(/:$/, "", name)
            value = $0; sub(/^ *[^ ]* ?/, "", value)
            if (value ~ /^".*"$/) value = substr(value, 2, length(value) - 2)
            if (value == "null") value = ""
            say(name, is[name], value)
        }
        part == "image:" { say("image", is_limit["image"], $2) }
        part == "mem_limit:" || part == "pids_limit:" {
            value = $2; gsub(/"/, "", value); name = $1; sub(/:$/, "", name)
            say(name, is_limit[name], value)
        }
        part == "cpus:" { say("cpus", is_limit["cpus"] / 1e9 "", $2 "") }
        END { print said == "" ? "other settings (mounts, networks, labels, probes ...)" : said }'
}

# --- in which order --------------------------------------------------------------------------------------------------

# The next of the services given, by what a survey has just said: what is new adds to the redundancy, what is broken has
# nothing to lose; then the replicas, the node that is the master by then, Sentinels, whatever else there is, and the
# traders last.
next_of() {
    local service
    for service in "$@"; do
        exists "$service" || { echo "$service" && return; }
    done
    for service in "$@"; do
        [[ $service == "$MASTER" || -z $(broken "$service") ]] || { echo "$service" && return; }
    done
    for service in "$@"; do
        [[ $service != redis-[0-9]* || $service == "$MASTER" ]] || { echo "$service" && return; }
    done
    is_among "$MASTER" "$@" && echo "$MASTER" && return
    for service in "$@"; do [[ $service != sentinel-[0-9]* ]] || { echo "$service" && return; }; done
    for service in "$@"; do [[ $service == trader* ]] || { echo "$service" && return; }; done
    echo "$1"
}

# What cannot get worse by being renewed: a container that does not run, or does not serve.
broken() {
    case $1 in
        redis-[0-9]* | sentinel-[0-9]*) lacks "$1" ;;
        # A link that waits for a master is no reason.
        trader*) [[ $(head -n 1 "$SURVEY/$1") == healthy* ]] || echo "is not well" ;;
    esac
}

show_plan() { # show_plan <service>...
    local left=("$@") service number=0 step
    while ((${#left[@]})); do
        service=$(next_of "${left[@]}")
        step=$service
        [[ $service != "$MASTER" ]] || step="switchover, then $service"
        number=$((number + 1))
        note "$(printf '%2d. %-28s %s' "$number" "$step" "${REASON[$service]:-restart}")"
        without "$service" "${left[@]}"
    done
}

# Takes a service out of the list `left`.
without() { # without <service> <service>...
    local gone=$1 service
    shift
    left=()
    for service in "$@"; do [[ $service == "$gone" ]] || left+=("$service"); done
}

# --- one after another -----------------------------------------------------------------------------------------------

# Before each step everything else has to be whole, so that the loss of one more node would lose nothing.
roll() { # roll <function that renews one service> <service>...
    local renewal=$1 left=("${@:2}") done=() service started old word
    while ((${#left[@]})); do
        survey
        [[ -n $MASTER ]] || stop_rolling "no majority of the Sentinels names a master"
        service=$(next_of "${left[@]}")
        started=$SECONDS
        if exists "$service" && [[ $service == "$MASTER" || -z $(broken "$service") ]]; then
            await_whole --without "$service" || stop_rolling "$LACKING"
            # It may have changed while we waited.
            if [[ $(next_of "${left[@]}") != "$service" ]]; then continue; fi
            if [[ $service == "$MASTER" ]]; then
                ((${#NODES[@]} > 1)) || stop_rolling "there is no replica to take over from $MASTER"
                old=$MASTER
                switch_over
                step "switchover from $old to $MASTER"
                await_whole --without "$service" || stop_rolling "$LACKING"
                # A second failover may have given the role back.
                if [[ $MASTER == "$service" ]]; then continue; fi
            fi
        fi
        word=renewed
        exists "$service" || word=added
        "$renewal" "$service"
        await_whole "$service" || stop_rolling "$LACKING" "$service"
        step "$service: $word, everything whole again after $((SECONDS - started)) s"
        done+=("$service")
        without "$service" "${left[@]}"
    done
}

stop_rolling() { # stop_rolling <reason> [service under way]
    fail "stopped: $1" \
        "done: ${done[*]:-nothing}; ${2:+under way: $2; }not touched: $(not_touched "${2:-}")" \
        "the other containers go on as they were; mend the cause (or take the change back), run this again and it continues"
}

not_touched() {
    local rest=()
    local service
    for service in "${left[@]}"; do [[ $service == "$1" ]] || rest+=("$service"); done
    echo "${rest[*]:-nothing}"
}

restart() { docker restart "$(container_of "$1")" >/dev/null; }

# --- what must not be changed like this ------------------------------------------------------------------------------

# Less memory than the data needs would refuse every write; Redis says nothing when it is set.
check_memory() { # check_memory <service>...
    local wanted used
    is_among_nodes "$@" || return 0
    wanted=$(bytes_of "$(compose config | sed -n 's/^      REDIS_MAXMEMORY: *"\?\([^"]*\)"\?$/\1/p' | head -n 1)")
    used=$(ask "$MASTER" 'INFO memory' | sed -n 's/^used_memory://p')
    [[ -n $used ]] || fail "$MASTER does not say how much memory it uses" "nothing was changed; see ./scripts/status"
    # 0: without a limit.
    ((wanted > 0)) || return 0
    ((wanted > used + used / 10)) ||
        fail "REDIS_MAXMEMORY=$(setting REDIS_MAXMEMORY 512mb): $MASTER uses $((used / 1048576 + 1)) MB already, and every write would be refused" \
            "set it to $((used * 3 / 2097152 + 2))mb or more"
}

is_among_nodes() {
    local service
    for service in "$@"; do [[ $service != redis-[0-9]* ]] || return 0; done
    return 1
}

# As Redis reads it: kb is 1024 bytes, k is 1000.
bytes_of() {
    local number unit
    [[ ${1,,} =~ ^([0-9]+)([a-z]*)$ ]] ||
        fail "REDIS_MAXMEMORY=$1 is not a size" "for example REDIS_MAXMEMORY=512mb"
    number=${BASH_REMATCH[1]} unit=${BASH_REMATCH[2]}
    case $unit in
        '' | b) echo "$number" ;;
        k) echo $((number * 1000)) ;;
        kb) echo $((number * 1024)) ;;
        m) echo $((number * 1000000)) ;;
        mb) echo $((number * 1048576)) ;;
        g) echo $((number * 1000000000)) ;;
        gb) echo $((number * 1073741824)) ;;
        *) fail "REDIS_MAXMEMORY=$1 is not a size" "for example REDIS_MAXMEMORY=512mb" ;;
    esac
}

# An older series cannot read what a newer one has written: its files and copies carry the version of their format.
check_versions() { # check_versions <service>...
    local image running other
    is_among_nodes "$@" || return 0
    image=$(compose config | awk '/^  redis-1:$/ { inside = 1 } inside && /^    image:/ { print $2; exit }')
    other=$(docker run --rm --network none --entrypoint redis-server "$image" --version 2>/dev/null |
        sed -n 's/.* v=\([0-9.]*\) .*/\1/p' || true)
    [[ -n $other ]] || fail "the image $image is not there, or has no Redis" "./scripts/rollout builds it; or check IMAGE_TAG"
    running=$(ask "$MASTER" 'INFO server' | sed -n 's/^redis_version://p')
    [[ -n $running ]] || fail "$MASTER does not say its version" "nothing was changed; see ./scripts/status"
    [[ $(printf '%s\n' "${running%.*}" "${other%.*}" | sort -V | head -n 1) == "${running%.*}" ]] ||
        fail "the stack runs Redis $running, and $image is Redis $other: it cannot read the data of the newer one" \
            "take an image of Redis ${running%.*} or newer"
}
