#!/bin/sh
# What the staging template needs of passwords, ACL files and certificates, seen from the inside: run as root, on the host
# or in a container. Prints a line for each problem, "<error|warning>|<what is wrong>|<what to do>"; never a password.
#
#   staging-files.sh WARN_DAYS USER:UID... -- SERVICE:UID:ADDRESS...     ADDRESS may be empty
#
# Environment: SECRETS (the directory), SHOWN (its name for people).
set -eu

MAKE_SECRETS="make it: ./scripts/secrets"
MAKE_CERTS="make it: ./scripts/certs"
DAY_S=86400

main() {
    warn_days=$1
    shift
    while [ "$1" != -- ]; do
        check_password "${1%:*}" "${1##*:}"
        shift
    done
    shift
    for server in nodes sentinels; do
        check_file "acl/$server.acl" "$REDIS_UID" "the ACL file of the $server" "$MAKE_SECRETS" || :
    done
    for entry in "$@"; do
        service=${entry%%:*} rest=${entry#*:}
        check_certificate "$service" "${rest%%:*}" "${rest#*:}"
    done
}

check_password() { # check_password <name of the file> <uid>
    check_file "passwords/$1" "$2" "the password of ${1#trader-}" "$MAKE_SECRETS" || return 0
    # What the servers know is the hash; the trader's name there is its id.
    hash=$(tr -d '\r\n' <"$SECRETS/passwords/$1" | sha256sum | cut -d ' ' -f 1)
    grep -qs "^user ${1#trader-} on .*#$hash " "$SECRETS/acl/nodes.acl" ||
        error "the servers would not know the password of ${1#trader-}: acl/nodes.acl in $SHOWN has another one" \
            "make the ACL files anew: ./scripts/secrets"
}

check_certificate() { # check_certificate <service> <uid> <address that it has to carry>
    certificate=$SECRETS/tls/$1/tls.crt
    check_file "tls/$1/tls.key" "$2" "the key of $1" "$MAKE_CERTS $1" || return 0
    if ! [ -s "$certificate" ] || ! [ -s "$SECRETS/tls/$1/ca.crt" ]; then
        error "the certificate of $1 is missing: tls/$1/tls.crt or ca.crt in $SHOWN" "$MAKE_CERTS"
    elif ! openssl x509 -in "$certificate" -noout 2>/dev/null; then
        error "the certificate of $1 is damaged: tls/$1/tls.crt in $SHOWN" "issue another one: ./scripts/certs"
    elif ! openssl x509 -in "$certificate" -noout -checkend 0 >/dev/null; then
        error "the certificate of $1 has expired ($(end_of "$certificate"))" "issue another one: ./scripts/certs"
    elif ! openssl verify -CAfile "$SECRETS/tls/$1/ca.crt" "$certificate" >/dev/null 2>&1; then
        error "the certificate of $1 is not of the authority that it trusts" "issue another one: ./scripts/certs"
    elif [ -n "$3" ] && openssl x509 -in "$certificate" -noout -checkip "$3" | grep -q 'NOT match'; then
        error "the certificate of $1 is not for its address, $3 (SUBNET_PREFIX)" "issue another one: ./scripts/certs"
    elif ! openssl x509 -in "$certificate" -noout -checkend "$((warn_days * DAY_S))" >/dev/null; then
        warning "the certificate of $1 expires soon ($(end_of "$certificate"))" "renew it: ./scripts/certs --help"
    fi
}

end_of() { openssl x509 -in "$1" -noout -enddate | sed 's/^notAfter=//'; }

# Is there and can be read by its owner alone, who is the one that reads it in the container; otherwise says so and fails.
check_file() { # check_file <file> <uid> <what it is> <how to make it>
    if ! [ -s "$SECRETS/$1" ]; then
        error "$3 is missing: $1 in $SHOWN" "$4"
    elif [ -n "$(find "$SECRETS/$1" -perm /077)" ]; then
        error "others may read $3 (mode $(stat -c %a "$SECRETS/$1")): $1 in $SHOWN" \
            "replace it if somebody may have read it; set the mode: chmod 600 $SHOWN/$1"
    elif [ "$(stat -c %u "$SECRETS/$1")" != "$2" ]; then
        error "$3 belongs to uid $(stat -c %u "$SECRETS/$1"), and is read by uid $2: $1 in $SHOWN" "mend it: ${4#make it: }"
    else
        return 0
    fi
    return 1
}

error() { echo "error|$1|$2"; }

warning() { echo "warning|$1|$2"; }

main "$@"
