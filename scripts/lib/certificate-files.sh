#!/bin/sh
# The certificate authority and the certificates, seen from the inside: run as root, on the host or in a container.
#
#   certificate-files.sh authority DAYS        make the authority if there has never been one; print "made" if so
#   certificate-files.sh issue DAYS [again]    issue what is missing, damaged, expired, of another authority or for other
#                                              names; with `again` everything. Reads lines "SERVICE UID USAGE NAMES";
#                                              prints "SERVICE: REASON" for each that is issued
#   certificate-files.sh next-authority DAYS   begin to change the authority, unless that has been begun: everybody is to
#                                              trust both; new certificates come from the next one
#   certificate-files.sh drop-old-authority    everybody is to trust the next authority alone, which is the authority now
#   certificate-files.sh changing              print "yes" while the authority is being changed
#   certificate-files.sh fingerprints          print "SERVICE SHA256" of every certificate
#   certificate-files.sh services              print the services that have a certificate
#   certificate-files.sh status DAYS           print what expires when; 1 if something does within DAYS
#
# Environment: SECRETS (the directory), SHOWN (its name on the host), OWNER (uid:gid of whoever owns the directory).
set -eu
umask 022

TLS=$SECRETS/tls
SHOWN_TLS=${SHOWN:-$SECRETS}/tls
# Clocks differ: a host whose clock is behind would refuse a certificate made a moment ago.
EARLIER_S=86400
DAY_S=86400

main() {
    action=$1
    shift
    # Private keys are made there: it goes whatever happens.
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 1' HUP INT TERM
    case $action in
        authority) make_authority "$@" ;;
        issue) issue_all "$@" ;;
        next-authority) next_authority "$@" ;;
        drop-old-authority) drop_old_authority ;;
        changing) [ ! -e "$TLS/ca-next.crt" ] || echo yes ;;
        fingerprints) for service in $(services); do echo "$service $(fingerprint "$TLS/$service/tls.crt")"; done ;;
        services) services ;;
        status) status "$@" ;;
        *) echo "unknown action: $action" >&2 && exit 2 ;;
    esac
}

make_authority() {
    mkdir -p "$TLS"
    chown "$OWNER" "$TLS"
    # Left by what was interrupted.
    find "$TLS" -name '*.incomplete*' -mmin +60 -delete
    [ ! -s "$TLS/ca.crt" ] || return 0
    # Another authority would be trusted by nobody who runs.
    [ ! -s "$TLS/ca.key" ] && [ -z "$(services)" ] ||
        fail "there is an authority already, and its certificate $SHOWN_TLS/ca.crt is missing" \
            "put it back (every service has a copy: $SHOWN_TLS/SERVICE/ca.crt); to begin anew, move $SHOWN_TLS away"
    new_authority ca "$1"
    echo made
}

new_authority() { # new_authority <file name without ending> <days>
    work=$(mktemp -d "$scratch/XXXXXX")
    new_key "$work/key"
    request "$work/key" "nautilus-redis-ha authority $(date -u "+%Y-%m-%d %H:%M:%S")"
    cat >"$work/extensions" <<EXTENSIONS
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
EXTENSIONS
    sign "$(seconds_after_days "$2")" -selfsign -keyfile "$work/key"
    place "$work/key" "$TLS/$1.key" "$OWNER" 0600
    place "$work/certificate" "$TLS/$1.crt" "$OWNER" 0644
    rm -rf "$work"
}

issue_all() { # issue_all <days> [again]
    while read -r service uid usage names; do
        directory=$TLS/$service
        reason=${2:+renewed}
        [ -n "$reason" ] || reason=$(what_is_wrong "$directory" "$names")
        if [ -n "$reason" ]; then
            issue "$service" "$uid" "$usage" "$names" "$1"
            echo "$service: $reason"
        fi
        trust "$service"
    done
}

# Prints why a certificate cannot stay; nothing if it can.
what_is_wrong() { # what_is_wrong <directory> <names>
    if [ ! -s "$1/tls.crt" ] || [ ! -s "$1/tls.key" ]; then
        echo "new"
    elif ! openssl x509 -in "$1/tls.crt" -noout -checkend 0 >/dev/null 2>&1; then
        echo "the old one is expired or damaged"
    elif ! openssl verify -CAfile "$TLS/ca.crt" "$1/tls.crt" >/dev/null 2>&1; then
        echo "the old one is of another authority"
    elif [ "$(key_of_certificate "$1/tls.crt")" != "$(openssl pkey -in "$1/tls.key" -pubout 2>/dev/null)" ]; then
        echo "the old one does not belong to its key"
    elif [ "$(names_in "$1/tls.crt")" != "$2" ]; then
        echo "the old one is for other names"
    fi
}

names_in() {
    openssl x509 -in "$1" -noout -ext subjectAltName | sed -n '2{s/IP Address:/IP:/g;p}' | tr -d ' '
}

issue() { # issue <service> <uid> <usage> <names> <days>
    directory=$TLS/$1
    authority=$(signing_authority)
    check_key "$authority" "$1"
    mkdir -p "$directory"
    chown "$OWNER" "$directory"
    work=$(mktemp -d "$scratch/XXXXXX")
    new_key "$work/key"
    request "$work/key" "$1"
    cat >"$work/extensions" <<EXTENSIONS
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $3
subjectAltName = $4
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
EXTENSIONS
    end=$(seconds_after_days "$5")
    # A certificate that outlives its authority only looks valid.
    authority_end=$(end_of "$TLS/$authority.crt")
    [ "$end" -le "$authority_end" ] || end=$authority_end
    sign "$end" -cert "$TLS/$authority.crt" -keyfile "$TLS/$authority.key"
    # Whoever reads between the two keeps what it had, or tries again.
    place "$work/key" "$directory/tls.key" "$2:$2" 0600
    place "$work/certificate" "$directory/tls.crt" "$2:$2" 0644
    rm -rf "$work"
}

signing_authority() { if [ -e "$TLS/ca-next.crt" ]; then echo ca-next; else echo ca; fi; }

# It is needed when something is issued, and may be elsewhere at other times.
check_key() { # check_key <authority> <service>
    [ -s "$TLS/$1.key" ] ||
        fail "$2 needs a certificate, and the authority's key $SHOWN_TLS/$1.key is missing" \
            "put it back; if it is lost, ./scripts/certs renew --ca makes another authority"
    [ "$(key_of_certificate "$TLS/$1.crt")" = "$(openssl pkey -in "$TLS/$1.key" -pubout 2>/dev/null)" ] ||
        fail "the key $SHOWN_TLS/$1.key is not that of $SHOWN_TLS/$1.crt" \
            "put the right one back; if it is lost, ./scripts/certs renew --ca makes another authority"
}

# Of the first certificate in a file.
key_of_certificate() { openssl x509 -in "$1" -noout -pubkey; }

next_authority() { # next_authority <days>
    [ -s "$TLS/ca-next.crt" ] && [ -s "$TLS/ca-next.key" ] || new_authority ca-next "$1"
    first_certificate "$TLS/ca.crt" >"$scratch/trusted"
    # They are the same if this was interrupted while the old one was dropped.
    if ! cmp -s "$scratch/trusted" "$TLS/ca-next.crt"; then
        cat "$TLS/ca-next.crt" >>"$scratch/trusted"
        place "$scratch/trusted" "$TLS/ca.crt" "$OWNER" 0644
    fi
    for service in $(services); do trust "$service"; done
}

# The change is over when ca-next.crt is gone: until then this can be repeated, and its key is still there.
drop_old_authority() {
    place "$TLS/ca-next.crt" "$TLS/ca.crt" "$OWNER" 0644
    for service in $(services); do trust "$service"; done
    place "$TLS/ca-next.key" "$TLS/ca.key" "$OWNER" 0600
    rm -f "$TLS/ca-next.crt"
    rm -f "$TLS/ca-next.key"
}

first_certificate() { sed '/-----END CERTIFICATE-----/q' "$1"; }

# The service trusts what tls/ca.crt holds: one authority, or two while they change.
trust() {
    cmp -s "$TLS/ca.crt" "$TLS/$1/ca.crt" || place "$TLS/ca.crt" "$TLS/$1/ca.crt" "$OWNER" 0644
}

services() { find "$TLS" -mindepth 2 -maxdepth 2 -name tls.crt | sed 's|/tls.crt$||; s|.*/||' | LC_ALL=C sort; }

fingerprint() { openssl x509 -in "$1" -noout -fingerprint -sha256 | sed 's/.*=//' | tr -d :; }

new_key() { # new_key <file>
    (umask 077 && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null)
}

# Needs $work. The configuration of the system is nothing to depend on.
request() { # request <key> <common name>
    printf '[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = %s\n' "$2" >"$work/request"
    openssl req -new -config "$work/request" -key "$1" -out "$work/csr"
}

# Needs $work with csr and extensions. `openssl ca` because it alone takes a date to begin with.
sign() { # sign <end, in Unix time> <options of openssl ca>...
    end=$1
    shift
    : >"$work/index"
    cat >"$work/config" <<CONFIG
[ca]
default_ca = authority
[authority]
database = $work/index
new_certs_dir = $work
policy = any_name
default_md = sha256
unique_subject = no
rand_serial = yes
[any_name]
commonName = supplied
CONFIG
    openssl ca -batch -config "$work/config" -extfile "$work/extensions" -in "$work/csr" -out "$work/certificate" -notext \
        -startdate "$(asn1_time $(($(date +%s) - EARLIER_S)))" -enddate "$(asn1_time "$end")" "$@" 2>"$work/errors" ||
        { cat "$work/errors" >&2 && return 1; }
}

asn1_time() { date -u -d "@$1" +%Y%m%d%H%M%SZ; }

seconds_after_days() { echo $(($(date +%s) + $1 * DAY_S)); }

# Of the first certificate in a file.
end_of() { date -u -d "$(openssl x509 -in "$1" -noout -enddate | sed 's/.*=//')" +%s; }

place() { # place <from> <to> <owner> <mode>
    incomplete=$(mktemp "$2.incomplete.XXXXXX")
    cat "$1" >"$incomplete"
    chown "$3" "$incomplete"
    chmod "$4" "$incomplete"
    sync "$incomplete"
    mv "$incomplete" "$2"
}

status() { # status <days>
    soon=0
    one_status "authority" "$TLS/ca.crt" "$1"
    [ ! -e "$TLS/ca-next.crt" ] || one_status "next authority" "$TLS/ca-next.crt" "$1"
    for service in $(services); do one_status "$service" "$TLS/$service/tls.crt" "$1"; done
    exit "$soon"
}

one_status() { # one_status <name> <file> <days>
    if ! end=$(end_of "$2" 2>/dev/null); then
        printf '%-15s cannot be read: %s\n' "$1" "$2"
        soon=1
        return
    fi
    left=$((end - $(date +%s)))
    remark=
    if [ "$left" -le 0 ]; then
        remark="   EXPIRED" soon=1
    elif [ "$left" -le $(($3 * DAY_S)) ]; then
        remark="   expires soon" soon=1
    fi
    printf '%-15s until %s   %5d days%s\n' "$1" "$(date -u -d "@$end" '+%Y-%m-%d %H:%M UTC')" "$((left / DAY_S))" "$remark"
}

fail() { # fail <what is wrong> <what to do>
    printf 'error: %s\n       %s\n' "$1" "$2" >&2
    exit 1
}

main "$@"
