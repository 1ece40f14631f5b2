# shellcheck shell=bash
# Where passwords and certificates lie, whose they are, and how to reach them. Needs log.sh, settings.sh, compose.sh,
# bases.sh and images.sh.

# The uids of the images: a file that only its owner may read has to belong to whoever reads it in the container.
# shellcheck disable=SC2034 # the scripts' own
TRADER_UID=10001
REDIS_UID=10002
METRICS_UID=10003

# Users of the stack itself, with the uid that reads the password.
# shellcheck disable=SC2034 # the scripts' own
STACK_USERS=("admin:$REDIS_UID" "health:$REDIS_UID" "replica:$REDIS_UID" "sentinel:$REDIS_UID" "metrics:$METRICS_UID")

secrets_dir() {
    local directory
    directory=$(setting SECRETS_DIR ./secrets)
    [[ $directory == /* ]] || directory=$ROOT/${directory#./}
    # As Compose writes it; macOS has no such realpath.
    realpath -ms -- "$directory" 2>/dev/null || printf '%s\n' "$directory"
}

# What Compose would take for something else than the scripts do.
check_secrets_dir() {
    local directory
    directory=$(setting SECRETS_DIR ./secrets)
    [[ $directory != '~'* ]] ||
        fail "SECRETS_DIR=$directory: nobody replaces ~ there" "write the whole path, for example $HOME${directory#"~"}"
    [[ $directory != *:* ]] || fail "SECRETS_DIR=$directory has a colon, which ends a path in Compose" "use a path without one"
    directory=$(secrets_dir)
    if [[ -d $directory && ! -x $directory ]]; then
        fail "SECRETS_DIR=$directory is closed to you" "run this as whoever it belongs to, or set SECRETS_DIR to another directory"
    fi
}

# The ids of all traders that the settings name, one per line.
trader_ids() {
    {
        setting TRADER_ID TRADER-001
        setting TRADER_2_ID TRADER-002
        setting TRADERS | tr ', ' '[\n*]'
    } | sed '/^$/d' | awk '!seen[$0]++'
}

check_trader_ids() {
    local id
    for id in $(trader_ids); do
        # With its hyphen it is no other user's name, and it means nothing else in a key pattern.
        [[ $id =~ ^[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)+$ ]] ||
            fail "trader id \"$id\" (TRADER_ID, TRADER_2_ID or TRADERS) is none" \
                "letters, digits, _ and . with a hyphen, for example TRADER-001"
    done
}

# The directory exists afterwards; one that is made is the caller's alone. One that was there keeps its mode, since it
# may be anything, and what is put into it is closed by itself.
ensure_secrets_dir() {
    local directory
    check_secrets_dir
    directory=$(secrets_dir)
    (umask 077 && mkdir -p "$directory" 2>/dev/null) && [[ -w $directory ]] ||
        fail "SECRETS_DIR=$directory cannot be written" "check its owner and mode, or set SECRETS_DIR to another directory"
    is_root || [[ -O $directory ]] ||
        fail "SECRETS_DIR=$directory belongs to somebody else" "set SECRETS_DIR to a directory of your own"
    [[ -d $directory/passwords || -d $directory/tls || -z $(ls -A "$directory") ]] ||
        fail "SECRETS_DIR=$directory holds something else" "set SECRETS_DIR to a directory that is empty or does not exist"
}

need_secrets() {
    check_secrets_dir
    [[ -d $(secrets_dir)/passwords ]] ||
        fail "SECRETS_DIR=$(secrets_dir) holds no passwords" "make them: ./scripts/secrets"
}

# Files of several owners need root: our own, or that of a container. The tools differ little; openssl may be missing.
# with_secrets <script in scripts/lib> <argument>...; in a container it reads all of the standard input
with_secrets() {
    local script=$1 needed=sh
    shift
    [[ $script == secret-files.sh ]] || needed=openssl
    if [[ $(uname -s) == Linux ]] && is_root && command -v "$needed" >/dev/null; then
        SECRETS=$(secrets_dir) SHOWN=$(secrets_dir) OWNER=$(directory_owner) REDIS_UID=$REDIS_UID \
            sh "$ROOT/scripts/lib/$script" "$@"
    else
        docker run --rm --interactive --network none --user 0:0 --cap-drop ALL \
            --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER --security-opt no-new-privileges:true \
            --volume "$(secrets_dir):/secrets" --volume "$ROOT/scripts/lib/$script:/script.sh:ro" \
            --env SECRETS=/secrets --env "SHOWN=$(secrets_dir)" --env "REDIS_UID=$REDIS_UID" --env "OWNER=$(directory_owner)" \
            --entrypoint sh "$(image_of trader)" /script.sh "$@"
    fi
}

directory_owner() { printf '%s:%s\n' "$(id -u)" "$(id -g)"; }

need_certificates() {
    check_secrets_dir
    [[ -s $(secrets_dir)/tls/ca.crt ]] ||
        fail "SECRETS_DIR=$(secrets_dir) holds no certificates" "make them: ./scripts/certs"
}

# On the host, or else in the trader's image.
ensure_openssl() {
    if is_root && command -v openssl >/dev/null; then return; fi
    command -v docker >/dev/null ||
        fail "there is neither openssl nor Docker here" "install one of them; without root it has to be Docker"
    ensure_engine
    ensure_compose
    image_exists "$(image_of trader)" || ensure_images trader
}
