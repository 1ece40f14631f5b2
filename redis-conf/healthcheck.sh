#!/bin/sh
# Healthy: answers, has loaded its disk, and, if it is a replica, is connected to its master.
# Prints the reason, which `docker inspect` shows.
set -eu

# shellcheck source=redis-conf/access.sh
. "$(dirname "$0")/access.sh"

main() {
    # Asking again for a moment makes a start visible when it happens instead of one probe interval later. Must stay
    # below the probe's timeout.
    deadline=$(($(date +%s) + 3))
    until reason=$(state); do
        if [ "$(date +%s)" -ge "$deadline" ]; then
            echo "$reason"
            exit 1
        fi
        sleep 0.2
    done
    echo "$reason"
}

state() {
    cli_here health 0.5 INFO persistence replication 2>/dev/null | tr -d '\r' | awk -F: '
        { value[$1] = $2 }
        END {
            if (!("role" in value)) { print "no answer"; exit 1 }
            if (value["loading"] != "0") { print "loading the data set"; exit 1 }
            if (value["role"] == "slave" && value["master_link_status"] != "up") {
                print "replica of " value["master_host"] ", link " value["master_link_status"]; exit 1
            }
            print value["role"]
        }'
}

main
