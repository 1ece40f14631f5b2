#!/bin/sh
# The password files, seen from the inside: run as root, on the host or in a container. Prints names and SHA-256 hashes;
# passwords only where that is said.
#
#   secret-files.sh make NAME:UID...        make the password files that are missing; print the names of those made
#   secret-files.sh names                   print the names of all password files
#   secret-files.sh hashes [NAME...]        print "NAME HASH..." of all; while a rotation is unfinished both the old and
#                                           the new one, except for the names given: only the new one
#   secret-files.sh put FILE UID            write standard input to acl/FILE, in place
#   secret-files.sh acl nodes|sentinels      print that ACL file
#   secret-files.sh current NAME...         print "NAME HASH" of what the password files hold
#   secret-files.sh unfinished              print the names whose rotation is unfinished
#   secret-files.sh begin NAME...           choose the next passwords, unless that has been done
#   secret-files.sh adopt NAME...           the password files get the next passwords, in place
#   secret-files.sh end NAME...             forget the old passwords
#   secret-files.sh show NAME               print the next password, for a pipe
#   secret-files.sh logins NAME...          print the commands of logins with the old and then the new password of each,
#                                           for a pipe
#
# Environment: SECRETS (the directory), SHOWN (its name on the host), OWNER (uid:gid of whoever owns the directory).
set -eu
umask 077

PASSWORDS=$SECRETS/passwords
ROTATION=$SECRETS/rotation
ACL=$SECRETS/acl

main() {
    action=$1
    shift
    case $action in
        make) make_all "$@" ;;
        names) list_files "$PASSWORDS" ;;
        hashes) hashes "$@" ;;
        put) put "$@" ;;
        acl) cat "$ACL/$1.acl" 2>/dev/null || : ;;
        unfinished) list_files "$ROTATION" | sed -n 's/\.new$//p' ;;
        current) for name in "$@"; do echo_hashes "$name" "$PASSWORDS/$name"; done ;;
        begin) for name in "$@"; do begin "$name"; done ;;
        adopt) for name in "$@"; do in_place "$PASSWORDS/$name" <"$ROTATION/$name.new"; done ;;
        end) for name in "$@"; do rm -f "$ROTATION/$name.new" "$ROTATION/$name.old"; done ;;
        show) cat "$ROTATION/$1.new" ;;
        logins) for name in "$@"; do login "$name" old; login "$name" new; done ;;
        *) echo "unknown action: $action" >&2 && exit 2 ;;
    esac
}

make_all() {
    for directory in "$PASSWORDS" "$ROTATION" "$ACL"; do
        mkdir -p "$directory"
        chown "$OWNER" "$directory"
    done
    # Left by what was interrupted.
    find "$PASSWORDS" "$ROTATION" "$ACL" -name '*.incomplete*' -mmin +60 -delete
    for entry in "$@"; do
        name=${entry%:*} uid=${entry##*:} file=$PASSWORDS/${entry%:*}
        if [ ! -e "$file" ]; then
            random_password | new_file "$file"
            echo "$name"
        fi
        hash_of "$file" >/dev/null
        chmod 0600 "$file"
        chown "$uid:$uid" "$file"
    done
}

# 256 bits; hexadecimal, so that it means the same in every configuration file, and all are of one length.
random_password() { od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n'; }

list_files() { find "$1" -type f ! -name '*.incomplete*' 2>/dev/null | sed 's|.*/||' | LC_ALL=C sort; }

hashes() { # hashes [name of which only the new one counts]...
    only_new=" $* "
    list_files "$PASSWORDS" | while read -r name; do
        if [ ! -e "$ROTATION/$name.new" ]; then
            echo_hashes "$name" "$PASSWORDS/$name"
            continue
        fi
        case $only_new in
            *" $name "*) echo_hashes "$name" "$ROTATION/$name.new" ;;
            *) echo_hashes "$name" "$ROTATION/$name.old" "$ROTATION/$name.new" ;;
        esac
    done
}

echo_hashes() { # echo_hashes <name> <file>...
    line=$1
    shift
    for file in "$@"; do
        hash=$(hash_of "$file")
        line="$line $hash"
    done
    echo "$line"
}

# Of the password alone: editors and echo end a file with a newline. That of nothing would let everybody in.
hash_of() {
    password=$(tr -d '\r\n' 2>/dev/null <"$1") || password=
    [ -n "$password" ] || no_password_in "$1"
    printf '%s' "$password" | sha256sum | cut -d ' ' -f 1
}

no_password_in() {
    file=${1##*/}
    case $1 in
        "$PASSWORDS"/*)
            fail "there is no password in ${SHOWN:-$SECRETS}/passwords/$file" \
                "write it into the file, or remove the file and run ./scripts/secrets for a new one"
            ;;
        *)
            fail "there is no password in ${SHOWN:-$SECRETS}/rotation/$file" \
                "remove what is there of ${file%.*}, and rotate it again: ./scripts/secrets rotate ${file%.*}"
            ;;
    esac
}

begin() {
    if [ ! -e "$ROTATION/$1.new" ]; then
        hash_of "$PASSWORDS/$1" >/dev/null
        tr -d '\r\n' <"$PASSWORDS/$1" | new_file "$ROTATION/$1.old"
        random_password | new_file "$ROTATION/$1.new"
    fi
}

# An old password may be of somebody else's making.
login() {
    hash_of "$ROTATION/$1.$2" >/dev/null
    printf 'AUTH %s "%s"\n' "${1#trader-}" "$(sed 's/[\\"]/\\&/g' "$ROTATION/$1.$2")"
}

put() { # put <file> <uid>
    in_place "$ACL/$1"
    chmod 0600 "$ACL/$1"
    chown "$2:$2" "$ACL/$1"
}

# Containers have the file itself mounted: another file of that name would not reach them. Without emptying it first,
# so that nobody reads nothing.
in_place() {
    incomplete=$(mktemp "$1.incomplete.XXXXXX")
    cat >"$incomplete"
    dd if="$incomplete" of="$1" conv=notrunc,fsync status=none
    truncate -s "$(wc -c <"$incomplete")" "$1"
    sync "$1"
    rm -f "$incomplete"
}

# All of it or none, also after a power failure: an old password that is lost locks out whoever has it.
new_file() {
    incomplete=$(mktemp "$1.incomplete.XXXXXX")
    cat >"$incomplete"
    [ -s "$incomplete" ]
    sync "$incomplete"
    mv "$incomplete" "$1"
    sync "${1%/*}"
}

fail() { # fail <what is wrong> <what to do>
    printf 'error: %s\n       %s\n' "$1" "$2" >&2
    exit 1
}

main "$@"
