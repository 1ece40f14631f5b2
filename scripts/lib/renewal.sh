# shellcheck shell=bash
# New certificates on a running stack. Needs lock.sh, servers.sh, secrets.sh and certificates.sh.
#
# Nodes read their files again when CONFIG SET names them, even if the names are the same. Sentinels (seen with 7.0.15)
# know no such command: they are restarted one after the other, and each has to be back before the next one goes. The
# link looks at its files before each connection.

renew() { # renew [--ca] [service]...
    local new_authority=false services=() service days
    while (($#)); do
        case $1 in
            --ca) new_authority=true ;;
            -*) fail "unknown option: $1" "see ./scripts/certs --help" ;;
            *) services+=("$1") ;;
        esac
        shift
    done
    days=$(check_days CERTS_DAYS 365)
    check_days CA_DAYS 3650 >/dev/null
    need_certificates
    ensure_openssl
    if $new_authority && ((${#services[@]})); then
        fail "--ca renews the certificates of all services" "leave out: ${services[*]}"
    fi
    for service in "${services[@]}"; do certificate_request "$service" >/dev/null; done
    ((${#services[@]})) || mapfile -t services < <(known_services)
    take_lock
    lock_secrets
    if [[ -n $(with_secrets certificate-files.sh changing) ]] && ! $new_authority; then
        fail "a change of the authority is unfinished" "complete it first: ./scripts/certs renew --ca"
    fi
    RUNNING=false
    if runs_with_tls; then
        check_servers
        RUNNING=true
        image_exists "$(image_of trader)" || ensure_images trader
    else
        note "no stack \"$(project_name)\" with TLS is running: what is renewed counts from its start on"
    fi

    # From here on things change.
    if $new_authority; then
        change_authority "$days" "${services[@]}"
    else
        for service in "${services[@]}"; do renew_one "$days" "$service"; done
    fi
}

change_authority() { # change_authority <days> <service>...
    local days=$1 service
    shift
    step "Everybody trusts the next authority as well"
    with_secrets certificate-files.sh next-authority "$(check_days CA_DAYS 3650)"
    for service in "$@"; do reload "$service"; done
    # The first certificate of the next authority is shown to everybody, before others depend on it.
    renew_one "$days" admin
    for service in "$@"; do check_accepts_admin "$service"; done
    step "Certificates of the next authority"
    for service in "$@"; do [[ $service == admin ]] || renew_one "$days" "$service"; done
    step "Nobody trusts the old authority any more"
    with_secrets certificate-files.sh drop-old-authority
    for service in "$@"; do reload "$service"; done
    for service in "$@"; do check_presents "$service"; done
}

renew_one() { # renew_one <days> <service>
    certificate_request "$2" | with_secrets certificate-files.sh issue "$1" again >/dev/null
    reload "$2"
    check_presents "$2"
    note "$2: renewed"
}

runs_with_tls() {
    local container
    read -r _ container _ <<<"$(servers)"
    [[ -n $container ]] &&
        docker inspect --format '{{ range .Config.Env }}{{ println . }}{{ end }}' "$container" | grep -qx REDIS_TLS=yes
}

container_of() { servers | awk -v service="$1" '$1 == service { print $2 }'; }

# Has a service that runs take its files as they are.
reload() { # reload <service>
    local container service mounted
    $RUNNING || return 0
    container=$(container_of "$1")
    case $1 in
        redis-[0-9]*)
            [[ -n $container ]] || return 0
            [[ $(ask "$container" CONFIG SET tls-cert-file /run/tls/tls.crt tls-key-file /run/tls/tls.key \
                tls-ca-cert-file /run/tls/ca.crt) == OK ]] ||
                fail "$1 refuses its new certificate and goes on with the old one" "see ./scripts/logs $1"
            ;;
        sentinel-[0-9]*)
            [[ -n $container ]] || return 0
            restart_and_wait "$container"
            await_sentinel "$container"
            ;;
        metrics)
            # Ours reads them at every scrape; another one may read them at its start alone.
            while read -r service container mounted; do
                if [[ $service == *exporter* && " $mounted " == *" /run/tls "* ]]; then restart_and_wait "$container"; fi
            done <<<"$(mounts)"
            ;;
    esac
}

# Servers only: what a client shows is seen when it connects.
check_presents() { # check_presents <service>
    local expected said
    is_running_server "$1" || return 0
    expected=$(with_secrets certificate-files.sh fingerprints | awk -v service="$1" '$1 == service { print $2 }')
    # shellcheck disable=SC2016 # expanded in the container
    said=$(as_admin sh -c 'openssl s_client -connect "$1" -CAfile /run/tls/ca.crt -cert /run/tls/tls.crt \
        -key /run/tls/tls.key -verify_return_error </dev/null 2>/dev/null |
        openssl x509 -noout -fingerprint -sha256 | sed "s/.*=//" | tr -d :' sh "$(address_of "$1")" 2>/dev/null) || true
    [[ -n $expected && $said == "$expected" ]] ||
        fail "$1 does not present its new certificate (presented: ${said:-none})" "see ./scripts/logs $1; then run this again"
}

# A refused client is told only after the handshake, so a word of the server is waited for.
check_accepts_admin() { # check_accepts_admin <service>
    is_running_server "$1" || return 0
    # shellcheck disable=SC2016 # expanded in the container
    as_admin sh -c 'printf "PING\r\nQUIT\r\n" | timeout 5 openssl s_client -quiet -connect "$1" -CAfile /run/tls/ca.crt \
        -cert /run/tls/tls.crt -key /run/tls/tls.key -verify_return_error 2>/dev/null | grep -q "NOAUTH\|PONG"' \
        sh "$(address_of "$1")" ||
        fail "$1 does not let a client in that has a certificate of the next authority" "see ./scripts/logs $1; then run this again"
}

is_running_server() { $RUNNING && [[ -n $(container_of "$1") ]]; }

address_of() { # address_of <service>
    local port=6379
    [[ $1 != sentinel-[0-9]* ]] || port=26379
    printf '%s:%s\n' "$(docker inspect --format '{{ range .NetworkSettings.Networks }}{{ println .IPAddress }}{{ end }}' \
        "$(container_of "$1")" | head -n 1)" "$port"
}

# In the stack's network, with the certificate of admin.
as_admin() {
    docker run --rm --network "$(project_name)_stack" --user "$(id -u):$(id -g)" --cap-drop ALL \
        --security-opt no-new-privileges:true --volume "$(secrets_dir)/tls/admin:/run/tls:ro" \
        "$(image_of trader)" "$@"
}
