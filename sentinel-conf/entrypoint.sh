#!/bin/sh
# Starts a Sentinel. The first start takes master, replicas and the other Sentinels from the environment; later starts
# keep what the Sentinel has learned since (master, epochs, its id, known nodes) and refresh the settings only.
# Otherwise a restart after a failover would point everyone back at the first master and its old data.
#
# Environment: SENTINEL_IP (fixed address), SENTINELS and NODES ("ip:port ..." lists; the first node is the master of an
# empty stack), MASTER_NAME, SENTINEL_QUORUM, SENTINEL_DOWN_AFTER_MS, SENTINEL_FAILOVER_TIMEOUT_MS, BIND (addresses to
# listen on; all if empty). TLS and logins: redis-conf/access.sh.
set -eu

HERE=$(dirname "$0")
CONFIG=/data/sentinel.conf

# shellcheck source=redis-conf/access.sh
. /opt/redis-node/access.sh

export MASTER_NAME="${MASTER_NAME:-mymaster}"
export SENTINEL_PORT="${SENTINEL_PORT:-26379}"
# A master silent for this long is suspected. Failing over a master that is merely slow is cheap (nothing is lost),
# waiting is not: every client waits along.
export SENTINEL_DOWN_AFTER_MS="${SENTINEL_DOWN_AFTER_MS:-1000}"
SENTINEL_QUORUM=${SENTINEL_QUORUM:-2}

main() {
    if ! problem=$(check_access health sentinel); then
        log "$problem"
        # Slows down the restart policy's loop.
        sleep 5
        exit 1
    fi
    # Sentinel keeps its passwords in the file that it rewrites.
    ! uses_logins || umask 077
    if [ -s "$CONFIG" ]; then
        log "keeping the state in $CONFIG"
        kept_state >"$CONFIG.state"
    else
        log "first start, master is ${NODES%% *}"
        first_state >"$CONFIG.state"
    fi
    # Complete or not at all: a Sentinel killed in here finds its old file.
    { settings && cat "$CONFIG.state" && tuning; } >"$CONFIG.new" || exit 1
    mv "$CONFIG.new" "$CONFIG"
    rm -f "$CONFIG.state"
    # Forked twice so that it becomes a child of the container's init and is reaped there.
    (sh "$HERE/settle.sh" &)
    exec redis-server "$CONFIG" --sentinel
}

settings() {
    sed -e "s/@SENTINEL_PORT@/$SENTINEL_PORT/" -e "s/@SENTINEL_IP@/$SENTINEL_IP/" "$HERE/sentinel.conf"
    [ -z "${BIND:-}" ] || echo "bind $BIND"
    access_settings "$SENTINEL_PORT"
    uses_logins || return 0
    # At the other Sentinels.
    echo "sentinel sentinel-user sentinel"
    echo "sentinel sentinel-pass $(password_of sentinel)"
}

# Everybody is known from the start: without it Sentinels find each other and the replicas only through the master's
# INFO and pub/sub, and no failover is possible for the first 10 s.
first_state() {
    echo "sentinel myid $(sentinel_id "$SENTINEL_IP:$SENTINEL_PORT")"
    for node in $NODES; do
        if [ "$node" = "${NODES%% *}" ]; then
            echo "sentinel monitor $MASTER_NAME ${node%:*} ${node##*:} $SENTINEL_QUORUM"
        else
            echo "sentinel known-replica $MASTER_NAME ${node%:*} ${node##*:}"
        fi
    done
    for sentinel in $SENTINELS; do
        [ "$sentinel" != "$SENTINEL_IP:$SENTINEL_PORT" ] || continue
        echo "sentinel known-sentinel $MASTER_NAME ${sentinel%:*} ${sentinel##*:} $(sentinel_id "$sentinel")"
    done
}

# The lines that are state, with the quorum of today. Addresses move along when the stack's subnet was changed: the
# last octets are fixed. Not where the nodes are in several subnets, as on several hosts.
kept_state() {
    old_subnet=$(awk '$1 == "sentinel" && $2 == "monitor" { sub(/\.[0-9]+$/, "", $4); print $4; exit }' "$CONFIG")
    in_one_subnet || old_subnet=${SENTINEL_IP%.*}
    awk -v old="$old_subnet." -v new="${SENTINEL_IP%.*}." -v quorum="$SENTINEL_QUORUM" '
        $1 != "sentinel" { next }
        $2 ~ /^(monitor|known-replica|known-slave|known-sentinel)$/ && index($4, old) == 1 {
            $4 = new substr($4, length(old) + 1)
        }
        $2 == "monitor" { $6 = quorum }
        $2 ~ /^(myid|monitor|config-epoch|leader-epoch|current-epoch|known-replica|known-slave|known-sentinel)$/
    ' "$CONFIG"
}

in_one_subnet() {
    for node in $NODES; do
        case ${node%:*} in "${SENTINEL_IP%.*}".*) ;; *) return 1 ;; esac
    done
}

# After the state, because these lines need the monitored master to be declared.
tuning() {
    # Patience while everything starts; settle.sh sets the real value.
    patience_ms=3000
    [ "$SENTINEL_DOWN_AFTER_MS" -le "$patience_ms" ] || patience_ms=$SENTINEL_DOWN_AFTER_MS
    echo "sentinel down-after-milliseconds $MASTER_NAME $patience_ms"
    # Twice this passes before a failed attempt (split vote, leader lost) is repeated. The default of 180 s would be an
    # outage of six minutes; a failover itself takes about one second.
    echo "sentinel failover-timeout $MASTER_NAME ${SENTINEL_FAILOVER_TIMEOUT_MS:-3000}"
    # One replica after the other, so that one data set is always complete.
    echo "sentinel parallel-syncs $MASTER_NAME 1"
    uses_logins || return 0
    # At the nodes.
    echo "sentinel auth-user $MASTER_NAME sentinel"
    echo "sentinel auth-pass $MASTER_NAME $(password_of sentinel)"
}

# 40 hex digits that each Sentinel can compute for the others too.
sentinel_id() {
    printf '%s@%s' "$MASTER_NAME" "$1" | sha1sum | cut -c1-40
}

log() {
    echo "sentinel $SENTINEL_IP: $*"
}

main
