#!/bin/sh
# This node's part of a backup; ./scripts/backup runs it beside the server.
#
#   backup.sh state    prints "<replica|master|unfit> <replication offset> <why it is unfit>"
#   backup.sh copy     writes a tar archive to stdout: dump.rdb, appendonlydir/, node.tsv (what the manifest says of the
#                      node, fields separated by tabs)
#
# The server goes on serving: RDB by BGSAVE, AOF by hard links to its files. Links suffice because Redis only appends to
# these files, or replaces them and then changes the manifest: if the manifest is the same before and after, all linked
# files belong together. No setting of the server is touched, so nothing is left behind if this is killed.
set -eu

HERE=$(dirname "$0")
DATA=${DATA:-/data}
AOF=$DATA/appendonlydir
MANIFEST=appendonly.aof.manifest
WORK=$DATA/.backup
# Seconds for a BGSAVE, or for an AOF rewrite that is under way before it.
PATIENCE_S=${BACKUP_PATIENCE_S:-900}

NODE_PORT=${NODE_PORT:-6379}
MASTER_NAME=${MASTER_NAME:-mymaster}
SENTINELS=${SENTINELS:-}
PEERS=${PEERS:-}

# shellcheck source=redis-conf/access.sh
. "$HERE/access.sh"
# shellcheck source=redis-conf/ask.sh
. "$HERE/ask.sh"

main() {
    case ${1:-} in
        state) state ;;
        copy) copy ;;
        *) die "usage: backup.sh state|copy" ;;
    esac
}

# A node is fit for a backup if it is the master that the Sentinels name, or follows that one: a master which is cut off, or
# whoever still follows it, would give old data.
state() {
    agreed=
    [ -z "$SENTINELS" ] || agreed=$(agreed_master)
    node INFO replication persistence | tr -d '\r' | awk -F: \
        -v sentinels="$SENTINELS" -v agreed="${agreed% *}" -v me="${NODE_IP:-}:$NODE_PORT" '
        { value[$1] = $2 }
        function unfit(why) { print "unfit", offset, why; exit }
        END {
            if (!("role" in value)) { print "unfit 0 no answer"; exit }
            offset = value["role"] == "slave" ? value["slave_repl_offset"] : value["master_repl_offset"]
            if (value["loading"] != "0") unfit("it is loading its data set")
            if (value["aof_enabled"] != "1") unfit("it has no AOF")
            if (value["aof_last_write_status"] != "ok") unfit("it cannot write its AOF")
            if (sentinels && agreed == "") unfit("no majority of the Sentinels agrees on the master")
            if (value["role"] != "slave") {
                if (sentinels && agreed != me) unfit("it says that it is a master, and the Sentinels name " agreed)
                print "master", offset
                exit
            }
            if (value["master_link_status"] != "up") unfit("its link to the master is down")
            if (value["master_sync_in_progress"] != "0") unfit("it is being synchronised")
            if (value["master_last_io_seconds_ago"] > 3) unfit("it has heard nothing from its master for " value["master_last_io_seconds_ago"] " s")
            if (value["master_host"] ":" value["master_port"] != agreed)
                unfit("it follows " value["master_host"] ", and the Sentinels name " agreed)
            print "replica", offset
        }'
}

copy() {
    # Held by this process alone: two backups of one node would fetch each other's snapshot.
    exec 9>"$DATA/.backup.lock"
    flock -n 9 || die "another backup of this node is being taken"
    trap clean EXIT
    trap 'exit 1' HUP INT TERM
    rm -rf "$WORK"
    mkdir "$WORK"
    [ -e "$DATA/dump.rdb" ] || remove_snapshot=yes
    save
    ln "$DATA/dump.rdb" "$WORK/dump.rdb"
    copy_aof
    describe >"$WORK/node.tsv"
    tar -C "$WORK" -cf - dump.rdb appendonlydir node.tsv
}

remove_snapshot=no
clean() {
    rm -rf "$WORK" "$DATA/.backup.lock"
    # Without an AOF beside it, it would be taken for a restored snapshot. A replica has one of its last full
    # synchronisation.
    [ "$remove_snapshot" = no ] || rm -f "$DATA/dump.rdb"
}

# Only one child process at a time: with a rewrite under way Redis refuses.
save() {
    deadline=$(($(date +%s) + PATIENCE_S))
    until said=$(node BGSAVE) && [ "$said" = "Background saving started" ]; do
        case $said in
            *progress* | *child* | *ctive*) before "$deadline" "the server to begin a BGSAVE: $said" ;;
            *) die "BGSAVE failed: $said" ;;
        esac
    done
    began=$(node TIME | head -n 1)
    while [ "$(info rdb_bgsave_in_progress)" != 0 ]; do
        before "$deadline" "BGSAVE to finish"
    done
    [ "$(info rdb_last_bgsave_status)" = ok ] || die "BGSAVE failed: see the log of this node; is its disk full?"
    # The second in which it began, or a later one.
    [ "$(node LASTSAVE)" -ge "$((began - 1))" ] || die "BGSAVE ended without a snapshot"
    # While one is under way Redis may hold writes back, and the AOF would be older than the snapshot. It writes them before
    # it answers that there is none.
    while [ "$(info aof_pending_bio_fsync)" != 0 ]; do
        before "$deadline" "the disk to take the AOF"
    done
}

# Again whenever a rewrite, or a full synchronisation, has changed the set meanwhile.
copy_aof() {
    deadline=$(($(date +%s) + PATIENCE_S))
    until link_aof; do
        before "$deadline" "the AOF to keep the same files for a moment"
    done
    offset=$(state | cut -d ' ' -f 2)
    newest=$(awk '$5 == "type" && $6 == "i" { name = $2 } END { print name }' "$WORK/appendonlydir/$MANIFEST")
    [ -n "$newest" ] || return 0
    mv "$WORK/appendonlydir/$newest" "$WORK/growing"
    # It grows while it is read: what is written just now may be there in part.
    until copy_newest; do
        before "$deadline" "an end of $newest that is the end of a command"
    done
}

link_aof() {
    rm -rf "$WORK/appendonlydir" "$WORK/manifest"
    mkdir "$WORK/appendonlydir"
    cp "$AOF/$MANIFEST" "$WORK/manifest" || return 1
    # "h": replaced already and about to be deleted.
    awk '$6 != "h"' "$WORK/manifest" >"$WORK/appendonlydir/$MANIFEST" || die "the AOF's manifest could not be copied"
    while read -r _ name _; do
        ln "$AOF/$name" "$WORK/appendonlydir/$name" 2>/dev/null || return 1
    done <"$WORK/appendonlydir/$MANIFEST"
    cmp -s "$AOF/$MANIFEST" "$WORK/manifest"
}

# Called where a failing command does not end the script: a copy that is shorter than asked for would pass as a torn end.
copy_newest() {
    size=$(wc -c <"$WORK/growing")
    if ! head -c "$size" "$WORK/growing" >"$WORK/appendonlydir/$newest" ||
        [ "$(wc -c <"$WORK/appendonlydir/$newest")" -ne "$size" ]; then
        die "$newest could not be copied: is the disk full?"
    fi
    sh "$HERE/torn-tail.sh" "$WORK/appendonlydir" >&2
    redis-check-aof "$WORK/appendonlydir/$newest" >/dev/null 2>&1 || [ ! -s "$WORK/appendonlydir/$newest" ]
}

describe() {
    field role "$(state | cut -d ' ' -f 1)"
    field address "${NODE_IP:-?}:$NODE_PORT"
    field redis_version "$(info redis_version)"
    field replication_id "$(info master_replid)"
    field offset "$offset"
    field unix_time "$(date +%s)"
}

field() { printf 'node\t%s\t%s\n' "$1" "$2"; }

info() { node INFO | tr -d '\r' | awk -F: -v name="$1" '$1 == name { print $2 }'; }

node() { cli_here "${CLI_USER:-admin}" 10 "$@"; }

before() { # before <Unix time> <what is waited for>
    [ "$(date +%s)" -lt "$1" ] || die "waited for $PATIENCE_S s for $2"
    sleep 0.1
}

die() {
    echo "$*" >&2
    exit 1
}

main "$@"
