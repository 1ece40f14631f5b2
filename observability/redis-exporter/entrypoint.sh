#!/bin/sh
# Starts the exporter. Where the stack has logins, the password comes from the secret /run/secrets/metrics and reaches the
# exporter in its own form, a JSON file that maps addresses to passwords, in the container's /tmp: neither an argument nor
# the environment ever holds it. It is read at the start: ./scripts/secrets rotate restarts the exporter.
#
# Environment: REDIS_TLS (yes, no), NODES and SENTINELS ("name:port ..." lists, what Prometheus asks for), REDIS_USER.
set -eu

SECRET=/run/secrets/metrics
PASSWORDS=/tmp/passwords.json
TLS=/run/tls

main() {
    program=$(command -v redis_exporter || echo /redis_exporter)
    # CONFIG would give away more than the metrics need; the limits stand in INFO as well.
    set -- --config-command=- --connection-timeout=2s --redis.addr= --set-client-name=false
    if [ -n "${REDIS_USER:-}" ]; then
        [ -s "$SECRET" ] || fail "REDIS_USER=$REDIS_USER, but the secret $SECRET is empty: see ./scripts/secrets"
        [ -r "$SECRET" ] || fail "the secret $SECRET is not readable for uid $(id -u): see ./scripts/secrets"
        write_passwords
        set -- "$@" "--redis.password-file=$PASSWORDS"
    fi
    if [ "${REDIS_TLS:-no}" = yes ]; then
        for file in ca.crt tls.crt tls.key; do
            [ -r "$TLS/$file" ] || fail "REDIS_TLS=yes, but $TLS/$file is not readable for uid $(id -u): see ./scripts/certs"
        done
        # Read anew for every scrape, so a renewed certificate needs nothing.
        set -- "$@" "--tls-ca-cert-file=$TLS/ca.crt" "--tls-client-cert-file=$TLS/tls.crt" "--tls-client-key-file=$TLS/tls.key"
    fi
    exec "$program" "$@"
}

write_passwords() {
    umask 077
    scheme=redis
    [ "${REDIS_TLS:-no}" = no ] || scheme=rediss
    {
        separator='{'
        for address in ${NODES:-} ${SENTINELS:-}; do
            printf '%s"%s://%s@%s":"%s"' "$separator" "$scheme" "$REDIS_USER" "$address" "$(sed 's/["\\]/\\&/g' "$SECRET")"
            separator=,
        done
        echo '}'
    } >"$PASSWORDS"
}

fail() {
    echo "redis-exporter: $*" >&2
    exit 1
}

main
