# shellcheck shell=bash
# New passwords on a running stack. Needs lock.sh, servers.sh, secrets.sh and acl.sh.
#
# Both passwords are valid until everybody uses the new one, and the ACL files say so too, for whoever starts meanwhile.
# ACL SETUSER and not ACL LOAD, which in Redis 7.0 disconnects everybody. Each step can be repeated: a rotation that was
# interrupted begins again with the new password that it had chosen.

TRY_AGAIN="when it is mended, run this again: it completes the rotation"

rotate_users() { # rotate_users <user>...|all
    local users user files=() containers server count
    need_secrets
    ensure_engine
    ensure_compose
    ensure_images trader
    read -ra users <<<"$(user_names)"
    if [[ $* != all ]]; then
        for user in "$@"; do
            [[ " ${users[*]} " == *" ${user#trader-} "* ]] ||
                fail "there is no user \"$user\"" "one of: ${users[*]}, or all"
        done
        users=("${@#trader-}")
    fi
    for user in "${users[@]}"; do files+=("$(password_file "$user")"); done

    # No impact yet.
    take_lock
    lock_secrets
    check_servers
    check_known "${users[@]}"
    containers=$(mounts)
    check_seen_by_containers "${files[@]}" <<<"$containers"

    # From here on things change.
    step "Both passwords are valid: ${users[*]}"
    with_secrets secret-files.sh begin "${files[@]}" </dev/null
    write_acl_files
    for server in "${NODES[@]}" "${SENTINELS[@]}"; do add_new_hashes "$server" "${files[@]}"; done
    step "Everybody takes the new ones"
    with_secrets secret-files.sh adopt "${files[@]}" </dev/null
    check_seen_by_containers "${files[@]}" <<<"$containers"
    for user in "${users[@]}"; do hand_over "$user" "$containers"; done
    step "The old ones are removed"
    write_acl_files "${files[@]}"
    for server in "${NODES[@]}" "${SENTINELS[@]}"; do remove_old_hashes "$server" "${files[@]}"; done
    for server in "${NODES[@]}" "${SENTINELS[@]}"; do check_logins "$server" "${files[@]}"; done
    with_secrets secret-files.sh end "${files[@]}" </dev/null
    count=$((${#NODES[@]} + ${#SENTINELS[@]}))
    note "$count servers let the new passwords in, and the old ones no more"
}

# The file of a trader's password is called trader-<ID>, the user <ID>.
password_file() {
    if [[ " ${STACK_USERS[*]%:*} " == *" $1 "* ]]; then echo "$1"; else echo "trader-$1"; fi
}

check_known() { # check_known <user>...
    local known user
    known=$(users_of "${NODES[0]}") || fail "${NODES[0]} does not say which users it has; nothing was changed" "see: docker logs ${NODES[0]}"
    for user in "$@"; do
        grep -qxF "$user" <<<"$known" ||
            fail "the servers do not know the user \"$user\" yet; nothing was changed" "let it in: ./scripts/secrets"
    done
}

# Containers have the file itself mounted. One that was replaced, by an editor perhaps, is not what they see. Standard
# input: as `mounts` prints it.
check_seen_by_containers() { # check_seen_by_containers <file>...
    local expected service container mounted file seen wanted
    expected=$(with_secrets secret-files.sh current "$@" </dev/null)
    while read -r service container mounted; do
        wanted=()
        for file in "$@"; do
            if [[ " $mounted " == *" /run/secrets/$file "* ]]; then wanted+=("$file"); fi
        done
        ((${#wanted[@]})) || continue
        # shellcheck disable=SC2016 # expanded in the container
        seen=$(docker exec "$container" sh -c 'for file; do
            echo "$file $(tr -d "\r\n" <"/run/secrets/$file" | sha256sum | cut -d " " -f 1)"; done' sh "${wanted[@]}")
        for file in "${wanted[@]}"; do
            [[ $(grep "^$file " <<<"$seen") == "$(grep "^$file " <<<"$expected")" ]] ||
                fail "$service has another password file of ${file#trader-} than SECRETS_DIR=$(secrets_dir)" \
                    "is that the folder with which it was started? If the file was replaced instead of written to:" \
                    "docker restart $container; then run this again"
        done
    done
}

# Hashes, which are no secret, of those users that a server has.
changes() { # changes <server> <rules before the hash> <file>...
    local known before=$2 name new
    known=$(users_of "$1") || fail "$1 does not say which users it has" "$TRY_AGAIN"
    with_secrets secret-files.sh hashes "${@:3}" </dev/null | while read -r name new; do
        if [[ " ${*:3} " == *" $name "* ]] && grep -qxF "${name#trader-}" <<<"$known"; then
            echo "ACL SETUSER ${name#trader-} $before#$new"
        fi
    done
}

add_new_hashes() { change_users_of "$1" "" "${@:2}"; }

# At once, so that there is no moment without a password.
remove_old_hashes() { change_users_of "$1" "resetpass " "${@:2}"; }

# A server that is passed over would let nobody in with what everybody uses next.
change_users_of() { # change_users_of <server> <rules before the hash> <file>...
    local lines
    lines=$(changes "$@") || exit 1
    change_users "$1" "$lines"
}

# One OK for each line, or else somebody was not changed.
change_users() { # change_users <server> <lines of ACL SETUSER>
    local said expected
    [[ -n $2 ]] || return 0
    expected=$(while read -r _; do echo OK; done <<<"$2")
    said=$(tell "$1" <<<"$2") || fail "$1 does not answer when its users are changed" "$TRY_AGAIN"
    [[ $said == "$expected" ]] ||
        fail "$1 refuses to change its users: $(grep -vxE 'OK|' <<<"$said" || echo "no answer")" "$TRY_AGAIN"
}

# The old password of each user is refused, and the new one is not.
check_logins() { # check_logins <server> <file>...
    local known files=() file expected said
    known=$(users_of "$1") || fail "$1 does not say which users it has" "$TRY_AGAIN"
    for file in "${@:2}"; do
        if grep -qxF "${file#trader-}" <<<"$known"; then files+=("$file"); fi
    done
    ((${#files[@]})) || return 0
    expected=$(for file in "${files[@]}"; do printf 'WRONGPASS\nOK\n'; done)
    said=$(with_secrets secret-files.sh logins "${files[@]}" </dev/null | tell "$1" | sed -n 's/^\([A-Z]\{1,\}\).*/\1/p')
    [[ $said == "$expected" ]] ||
        fail "$1 answers the old and new passwords of ${files[*]#trader-} with ${said//$'\n'/ }" \
            "run this again: it completes the rotation"
}

# Nodes and Sentinels keep in memory what they log in with elsewhere. The link reads its file at each connection, cli.sh
# and the probes read theirs each time.
hand_over() { # hand_over <user> <what `mounts` printed>
    local server service mounted
    case $1 in
        replica)
            for server in "${NODES[@]}"; do tell_secret "$server" replica CONFIG SET masterauth; done
            ;;
        sentinel)
            for server in "${SENTINELS[@]}"; do
                tell_secret "$server" sentinel SENTINEL SET "$(master_name "$server")" auth-pass
                tell_secret "$server" sentinel SENTINEL CONFIG SET sentinel-pass
                await_sentinel "$server"
            done
            ;;
        metrics)
            # An exporter reads it at its start.
            while read -r service server mounted; do
                if [[ " $mounted " == *" /run/secrets/metrics "* ]]; then restart_and_wait "$server"; fi
            done <<<"$2"
            ;;
    esac
}

# The password is the last argument of the command, and of no process.
tell_secret() { # tell_secret <server> <file> <command>...
    local server=$1 file=$2
    shift 2
    [[ $({ printf '%s ' "$@" && with_secrets secret-files.sh show "$file" </dev/null && echo; } | tell "$server") == OK ]] ||
        fail "$server refuses $1 $2" "$TRY_AGAIN"
}

tell_of_unfinished_rotations() {
    local file
    for file in $(with_secrets secret-files.sh unfinished </dev/null); do
        note "the rotation of ${file#trader-} is unfinished, both passwords are valid: ./scripts/secrets rotate ${file#trader-}"
    done
}

# Servers that run learn of users that are new in the ACL files.
admit_new_users() {
    local service container state kind known line rules
    stack_is_running || return 0
    while read -r service container state; do
        [[ $state == running ]] || continue
        [[ $(ask "$container" ACL WHOAMI 2>/dev/null) == admin ]] || continue
        known=$(users_of "$container") || fail "$service does not say which users it has" "see ./scripts/logs $service; then run this again"
        kind=nodes
        [[ $service == redis-[0-9]* ]] || kind=sentinels
        while read -r line; do
            read -ra rules <<<"${line#user }"
            grep -qxF "${rules[0]-default}" <<<"$known" && continue
            change_users "$container" "ACL SETUSER ${rules[*]}"
            note "$service lets ${rules[0]} in from now on"
        done <<<"$(acl_file "$kind" </dev/null)"
    done <<<"$(servers)"
}
