# shellcheck shell=bash
# Checks before a staging stack is started. They change nothing. Needs secrets.sh and trading.sh.

# Days before its end in which a certificate is worth a warning at a start.
EXPIRES_SOON_DAYS=7

check_staging() {
    check_secrets_dir
    SECRETS_DIR=$(secrets_dir)
    export SECRETS_DIR
    [[ -d $SECRETS_DIR/passwords && -d $SECRETS_DIR/acl ]] ||
        fail "SECRETS_DIR=$SECRETS_DIR holds no passwords" "make them: ./scripts/secrets"
    [[ -d $SECRETS_DIR/tls ]] || fail "SECRETS_DIR=$SECRETS_DIR holds no certificates" "make them: ./scripts/certs"
    check_cpus REDIS_CPUS 2
    check_cpus SENTINEL_CPUS 0.5
    check_cpus TRADER_CPUS 2
    local problems
    problems=$(staging_problems) || fail "the files in SECRETS_DIR=$SECRETS_DIR cannot be checked"
    report_problems "$problems"
}

# Of the services that would be started.
staging_problems() {
    local service number subnet passwords certificates=()
    subnet=$(setting SUBNET_PREFIX 172.28.77)
    passwords=("admin:$REDIS_UID" "health:$REDIS_UID" "replica:$REDIS_UID" "sentinel:$REDIS_UID")
    while read -r service; do
        number=${service##*-}
        case $service in
            redis-[0-9]) certificates+=("$service:$REDIS_UID:$subnet.1$number") ;;
            sentinel-[0-9]) certificates+=("$service:$REDIS_UID:$subnet.2$number") ;;
            trader | trader-2)
                passwords+=("trader-$(trader_id_of "$service"):$TRADER_UID")
                certificates+=("$service:$TRADER_UID:")
                ;;
            redis-exporter)
                passwords+=("metrics:$METRICS_UID")
                certificates+=("metrics:$METRICS_UID:")
                ;;
        esac
    done < <(compose config --services | sort)
    with_secrets staging-files.sh "$EXPIRES_SOON_DAYS" "${passwords[@]}" -- "${certificates[@]}"
}

# All errors at once, so that they are mended at once.
report_problems() { # report_problems <lines of staging-files.sh>
    local kind what remedy errors=()
    while IFS='|' read -r kind what remedy; do
        case $kind in
            warning) warn "$what" "$remedy" ;;
            error) errors+=("$what" "    $remedy") ;;
        esac
    done <<<"$1"
    ((${#errors[@]} == 0)) || fail "${errors[@]}"
}

# The engine refuses more than there are, in the middle of a start.
check_cpus() { # check_cpus <setting> <default>
    local cpus available
    cpus=$(setting "$1" "$2")
    available=$(docker info --format '{{ .NCPU }}')
    awk -v cpus="$cpus" -v available="$available" \
        'BEGIN { exit !(cpus ~ /^[0-9]+(\.[0-9]+)?$/ && cpus > 0 && cpus <= available) }' ||
        fail "$1=$cpus: a container cannot have that many CPUs, this engine has $available" "set $1 to at most $available"
}
