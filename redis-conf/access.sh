# shellcheck shell=sh
# redis-cli with the encryption and the login that the stack has, and what its servers are configured with for them.
# Sourced. Without these files there is neither: REDIS_TLS=yes and /run/tls/{ca.crt,tls.crt,tls.key} (mutual TLS),
# /run/secrets/<user> (passwords), /run/secrets/users.acl (ACL users; the default user is off). REDIS_LOGINS=yes: they
# have to be there.

TLS=/run/tls
SECRETS=/run/secrets
ACL_FILE=$SECRETS/users.acl

# cli <user> <seconds> <argument of redis-cli>...; 0 seconds: as long as it takes. The password goes through the
# environment of that process alone: arguments show in process lists.
cli() {
    cli_user=$1
    cli_limit=$2
    shift 2
    ! uses_tls || set -- --tls --cacert "$TLS/ca.crt" --cert "$TLS/tls.crt" --key "$TLS/tls.key" "$@"
    if [ -e "$SECRETS/$cli_user" ]; then
        REDISCLI_AUTH=$(password_of "$cli_user") timeout --foreground "$cli_limit" redis-cli --user "$cli_user" "$@"
    else
        timeout --foreground "$cli_limit" redis-cli "$@"
    fi
}

# cli_here <arguments of cli>...: at this container's own server, be it a node or a Sentinel.
cli_here() {
    cli_here_user=$1
    cli_here_limit=$2
    shift 2
    if [ -n "${SENTINEL_IP:-}" ]; then
        set -- -p "${SENTINEL_PORT:-26379}" "$@"
    else
        set -- -p "${NODE_PORT:-6379}" "$@"
    fi
    cli "$cli_here_user" "$cli_here_limit" "$@"
}

uses_tls() { [ "${REDIS_TLS:-no}" = yes ]; }

uses_logins() { [ -e "$ACL_FILE" ]; }

password_of() { cat "$SECRETS/$1"; }

# Called before a server is configured. Prints what is wrong and fails; what a start would only show as a server that
# nobody can reach.
check_access() {
    case ${REDIS_TLS:-no} in
        yes | no) ;;
        *) echo "REDIS_TLS=$REDIS_TLS is neither yes nor no" && return 1 ;;
    esac
    if uses_tls; then
        for access_file in ca.crt tls.crt tls.key; do
            [ -r "$TLS/$access_file" ] ||
                { echo "REDIS_TLS=yes, but $TLS/$access_file cannot be read by uid $(id -u): see ./scripts/certs" && return 1; }
        done
    fi
    # Logins are not left out by mistake, by a file that is mounted under another name.
    if [ "${REDIS_LOGINS:-no}" = yes ] && ! uses_logins; then
        echo "REDIS_LOGINS=yes, but there is no $ACL_FILE: see ./scripts/secrets" && return 1
    fi
    uses_logins || return 0
    for access_file in users.acl "$@"; do
        [ -r "$SECRETS/$access_file" ] ||
            { echo "$SECRETS/$access_file cannot be read by uid $(id -u): see ./scripts/secrets" && return 1; }
    done
    for access_file in "$@"; do
        # Redis and Sentinel write it into their configuration files without quotes.
        case $(password_of "$access_file") in
            '' | *[!A-Za-z0-9_.~+/=@:,-]*)
                echo "the password of \"$access_file\" is empty or has a character other than letters, digits and _.~+/=@:,-"
                return 1
                ;;
        esac
    done
}

# Prints settings of a server that listens at a port: encrypted where the stack is, and then nowhere in plain text.
access_settings() { # access_settings <port>
    if uses_tls; then
        cat <<SETTINGS
port 0
tls-port $1
tls-ca-cert-file $TLS/ca.crt
tls-cert-file $TLS/tls.crt
tls-key-file $TLS/tls.key
tls-auth-clients yes
tls-replication yes
SETTINGS
    else
        echo "port $1"
    fi
    ! uses_logins || echo "aclfile $ACL_FILE"
}
