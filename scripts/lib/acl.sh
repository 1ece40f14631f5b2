# shellcheck shell=bash
# The ACL files, made from the hashes of the passwords. Needs secrets.sh.

# write_acl_files [password file whose old content counts no more]...
write_acl_files() {
    local kind text
    for kind in nodes sentinels; do
        text=$(acl_users "$@" | acl_text "$kind") && [[ -n $text ]] || fail "the ACL file of the $kind cannot be made"
        if [[ $text != "$(acl_file "$kind")" ]]; then
            printf '%s\n' "$text" | with_secrets secret-files.sh put "$kind.acl" "$REDIS_UID"
        fi
    done
}

# "USER HASH..." as the ACL knows them: the password file of trader X is trader-X, its user X.
acl_users() { with_secrets secret-files.sh hashes "$@" </dev/null | sed 's/^trader-//'; }

acl_text() { # acl_text nodes|sentinels, with users and hashes as input
    local traders=()
    local id
    while read -r id; do traders+=(--trader "$id"); done < <(known_traders)
    docker run --rm --interactive --network none --cap-drop ALL --security-opt no-new-privileges:true \
        "$(image_of trader)" python -m trader_node.acl "$1" "${traders[@]}"
}

# Those that have a password, whatever the settings say today.
known_traders() { with_secrets secret-files.sh names </dev/null | sed -n 's/^trader-//p'; }

acl_file() { with_secrets secret-files.sh acl "$1"; }
