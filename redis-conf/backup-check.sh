#!/bin/sh
# Loads a backup for real, in a container without a network, and prints what it holds: fields separated by tabs, for the
# manifest. The backup arrives as a tar archive on stdin. Whatever is wrong with it is one line on stderr, and status 1.
#
# Both forms are loaded, the AOF set and the snapshot: each alone is enough for a restore.
set -eu

HERE=$(dirname "$0")
WORK=$(mktemp -d)
MANIFEST=appendonlydir/appendonly.aof.manifest
SOCKET=$WORK/trial.sock

main() {
    trap 'rm -rf "$WORK"' EXIT
    cd "$WORK"
    tar -xf - || die "the archive is cut off"
    for name in dump.rdb "$MANIFEST"; do
        [ -s "$name" ] || die "$name is missing"
    done
    [ ! -e node.tsv ] || cat node.tsv
    sizes
    check_snapshot
    check_aof
    trial aof "$WORK"
    rm -rf "$WORK/appendonlydir"
    sh "$HERE/snapshot-as-aof.sh" "$WORK/dump.rdb" "$WORK/appendonlydir"
    trial rdb "$WORK"
}

sizes() {
    for name in dump.rdb appendonlydir/*; do
        printf 'files\t%s\t%s\n' "$name" "$(wc -c <"$name")"
    done
}

check_snapshot() {
    said=$(redis-check-rdb dump.rdb 2>&1) || die "dump.rdb is damaged: $(printf '%s\n' "$said" | grep -A 1 'ERROR' | tail -n 1)"
    # Exactly where in the master's stream of writes the snapshot was taken; a master that has no replica does not say.
    offset=$(printf '%s\n' "$said" | sed -n "s/.*AUX FIELD repl-offset = '\([0-9]*\)'.*/\1/p")
    [ -z "$offset" ] || printf 'rdb\toffset\t%s\n' "$offset"
}

check_aof() {
    said=$(redis-check-aof "$MANIFEST" 2>&1) || die "the AOF is damaged: $(printf '%s\n' "$said" | grep -m 1 -i 'not valid\|error\|expected\|not found\|no such' || echo "see redis-check-aof")"
}

trial() { # trial <aof|rdb> <directory>
    began=$(date +%s%3N)
    redis-server --port 0 --unixsocket "$SOCKET" --dir "$2" --save '' --appendonly yes --appendfsync no \
        --aof-load-truncated no --auto-aof-rewrite-percentage 0 --loglevel notice --logfile "$WORK/trial.log" >/dev/null &
    until ask INFO persistence 2>/dev/null | grep -q '^loading:0'; do
        kill -0 $! 2>/dev/null || die "Redis cannot load it ($1): $(sed -n '$s/^.* # //p' "$WORK/trial.log")"
        sleep 0.05
    done
    printf '%s\tload_ms\t%s\n' "$1" "$(($(date +%s%3N) - began))"
    printf '%s\tmemory_bytes\t%s\n' "$1" "$(ask INFO memory | tr -d '\r' | sed -n 's/^used_memory://p')"
    contents "$1"
    kill -KILL $!
    wait $! 2>/dev/null || :
    rm -f "$SOCKET" "$WORK/trial.log"
}

contents() {
    printf '%s\tkeys\t%s\n' "$1" "$(ask INFO keyspace | tr -d '\r' | sed -n 's/^db[0-9]*:keys=\([0-9]*\),.*/\1/p' | awk '{ n += $1 } END { print n + 0 }')"
    for db in $(ask INFO keyspace | sed -n 's/^db\([0-9]*\):.*/\1/p'); do
        ask -n "$db" --scan >"$WORK/keys"
        awk -F: -v part="$1" '
            /^trader-[^:]+:/ && $2 ~ /^(positions|orders|accounts)$/ { counts[substr($1, 8) "\t" $2]++ }
            END { for (each in counts) print part "\ttraders\t" each "\t" counts[each] }' OFS='\t' "$WORK/keys" | LC_ALL=C sort
        grep -E '^trader-[^:]+\.link$' "$WORK/keys" | LC_ALL=C sort | while read -r key; do
            id=${key#trader-}
            printf "$1"'\ttraders\t%s\tmarker_owner\t%s\n' "${id%.link}" "$(ask -n "$db" HGET "$key" o)"
            printf "$1"'\ttraders\t%s\tmarker_entry\t%s\n' "${id%.link}" "$(ask -n "$db" HGET "$key" s)"
        done
    done
}

ask() { redis-cli -s "$SOCKET" "$@" </dev/null; }

die() {
    echo "$*" >&2
    exit 1
}

main
