#!/bin/sh
# Makes a replica that started on an empty disk electable once it holds the master's data in memory AND on disk.
# Argument: path of the marker file to remove.
#
# The link is up before the rewritten AOF is complete; a restart in between loads the old, empty AOF. So the marker goes
# only when no rewrite is running or scheduled any more.
set -eu

# shellcheck source=redis-conf/access.sh
. "$(dirname "$0")/access.sh"

marker=$1

synchronised() {
    cli_here health 2 INFO persistence replication 2>/dev/null | tr -d '\r' | awk -F: '
        { value[$1] = $2 }
        END {
            exit !(value["master_link_status"] == "up" && value["loading"] == "0" \
                && value["aof_rewrite_in_progress"] == "0" && value["aof_rewrite_scheduled"] == "0" \
                && value["aof_last_bgrewrite_status"] == "ok")
        }'
}

polls=0
until synchronised; do
    polls=$((polls + 1))
    # Quick while the stack starts, modest while a large copy or an absent master takes its time.
    if [ "$polls" -lt 100 ]; then sleep 0.1; else sleep 1; fi
done

rm -f "$marker"
until [ "$(cli_here admin 2 CONFIG SET replica-priority 100 2>/dev/null)" = OK ]; do
    sleep 0.2
done
echo "first synchronisation finished: this replica is electable"
