# shellcheck shell=bash
# Backups as folders: <BACKUP_DIR>/<project>-<time in UTC>, with SHA256SUMS, manifest.json, dump.rdb and appendonlydir/.
# Needs log.sh, settings.sh and images.sh.
#
# Files reach containers as an archive on stdin, never by a mount: they are readable for their owner alone, and the
# engine may be another machine's.

BACKUP_SUMS=SHA256SUMS

# Prints the names of all complete backups of this project in a folder, oldest first.
backups_in() {
    [[ -d $1 ]] || return 0
    # "find" and not a pattern: project names may begin like another's.
    find "$1" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' |
        grep -E "^$(project_name)-[0-9]{8}T[0-9]{6}Z\$" | LC_ALL=C sort || true
}

# Fails with the reason if a file is damaged, missing, or not listed.
check_sums() { # check_sums <backup>
    local said listed present
    [[ -d $1 ]] || fail "$1: no such backup" "./scripts/backup list shows what there is"
    [[ -s $1/$BACKUP_SUMS && -s $1/manifest.json ]] ||
        fail "$1 is no complete backup: it has no $BACKUP_SUMS or no manifest.json" "./scripts/backup list shows what there is"
    said=$(cd "$1" && sha256sum --check --strict --quiet "$BACKUP_SUMS" 2>&1) ||
        fail "$1 is DAMAGED: $(head -n 1 <<<"$said")" "use another one: ./scripts/backup list"
    listed=$(sed 's/^[0-9a-f]*  //' "$1/$BACKUP_SUMS" | LC_ALL=C sort)
    present=$(backup_files "$1")
    [[ $listed == "$present" ]] || fail "$1 is DAMAGED: it holds other files than $BACKUP_SUMS lists" "use another one: ./scripts/backup list"
}

write_sums() { # write_sums <backup>
    (cd "$1" && backup_files . | xargs -d '\n' sha256sum >"$BACKUP_SUMS")
}

backup_files() { (cd "$1" && find . -type f ! -name "$BACKUP_SUMS" -printf '%P\n' | LC_ALL=C sort); }

# As they are: a backup that is taken at night builds nothing.
ensure_trial_images() {
    docker image inspect "$(image_of redis-1)" "$(image_of trader)" >/dev/null 2>&1 || ensure_images redis-1 trader >&2
}

# Prints the facts of a backup that a Redis of this stack's image has loaded; fails with the reason if it cannot.
load_for_trial() { # load_for_trial <backup>
    tar -C "$1" -cf - . | docker run --rm --interactive --network none --cap-drop ALL --security-opt no-new-privileges \
        --entrypoint sh "$(image_of redis-1)" /opt/redis-node/backup-check.sh
}

# backup_manifest <command> [aof|rdb]; see trader_node/backup_manifest.py
backup_manifest() {
    docker run --rm --interactive --network none --cap-drop ALL --security-opt no-new-privileges "$(image_of trader)" \
        python -m trader_node.backup_manifest "$@"
}

# Checksums, and a trial load whose counts have to be those of the manifest.
verify_backup() { # verify_backup <backup>
    local facts said
    check_sums "$1"
    # Facts have tabs, the reason has none.
    facts=$(load_for_trial "$1" 2>&1) ||
        fail "$1 is DAMAGED: $(grep -v $'\t' <<<"$facts" | tail -n 1)" "use another one: ./scripts/backup list"
    said=$({ cat "$1/manifest.json" && printf '\n---\n%s\n' "$facts"; } | backup_manifest compare 2>&1) ||
        fail "$1 is DAMAGED: $(head -n 1 <<<"$said")" "use another one: ./scripts/backup list"
}
