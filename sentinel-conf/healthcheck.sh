#!/bin/sh
# Healthy: this Sentinel could fail over. It reaches a quorum and the majority (CKQUORUM), knows all replicas, and at
# least one of them has reported that it is electable. A replica that is down stays known and keeps its last report.
# Prints the reason, which `docker inspect` shows.
set -eu

# shellcheck source=redis-conf/access.sh
. /opt/redis-node/access.sh

MASTER_NAME=${MASTER_NAME:-mymaster}
# One of the nodes is the master.
EXPECTED_REPLICAS=${EXPECTED_REPLICAS:-$(($(echo "${NODES:-a b c}" | wc -w) - 1))}

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
    # Not both through the input of one redis-cli: there it also asks for the documentation of all commands, which the ACL
    # refuses, and ACL LOG is for strangers.
    { cli_here health 0.5 SENTINEL CKQUORUM "$MASTER_NAME" && cli_here health 0.5 SENTINEL REPLICAS "$MASTER_NAME"; } 2>/dev/null |
        tr -d '\r' |
        awk -v expected="$EXPECTED_REPLICAS" '
        NR == 1 { quorum = $0 }
        field == "name" { replicas++; runid = "" }
        # Empty until the replica has answered INFO; before that Sentinel assumes the default priority.
        field == "runid" { runid = $0 }
        field == "slave-priority" && runid != "" && $0 > 0 { electable++ }
        { field = $0 }
        END {
            if (quorum !~ /^OK/) { print (quorum == "" ? "no answer" : quorum); exit 1 }
            if (replicas < expected) { print replicas + 0 " of " expected " replicas known"; exit 1 }
            if (!electable) { print "no replica is electable yet"; exit 1 }
            print quorum "; " replicas " replicas known, " electable " electable"
        }'
}

main
