#!/bin/sh
# Starts a data node in the role the Sentinels give it.
#
# No node has a fixed role, and none ever promotes itself. A node that came up as "the master because it was the
# master" accepted writes for 10 s after a failover before the Sentinels demoted it, and all of them were lost. So:
#
#   no majority of the Sentinels answers              wait
#   it names another node                             start as its replica, whatever is on this disk; if that is empty,
#                                                     not before the Sentinels have forgotten what was on it; if it is
#                                                     damaged, it counts as empty once that master can be copied
#   it names this node, a failover is to be expected  wait for its outcome (see expects_failover)
#   it names this node, and the disk holds data       start as master
#   it names this node, and the disk is empty         never serve before every peer has said that it is empty as well;
#                                                     if one holds keys, stay down: the Sentinels will promote it
#
# A master whose disk is damaged does not start, for whatever was done about it would drop data: Redis says what to do,
# and the Sentinels promote another node.
#
# Environment: NODE_IP (fixed address, announced to replicas and Sentinels), PEERS and SENTINELS ("ip:port ..." lists;
# no SENTINELS: a single instance), MASTER_NAME, REDIS_MAXMEMORY, REDIS_MIN_REPLICAS, REDIS_MIN_REPLICAS_MAX_LAG, BIND
# (addresses to listen on; all if empty). TLS and logins: access.sh.
set -eu

HERE=$(dirname "$0")
DATA=/data
CONFIG=/tmp/redis.conf
FIRST_SYNC_PENDING=$DATA/first-sync-pending
AOF=$DATA/appendonlydir
MANIFEST=$AOF/appendonly.aof.manifest
# The manifest with which this node last started as a replica.
STARTED_WITH=$DATA/started-with.manifest
# The last AOF that Redis could not load.
DAMAGED=$DATA/damaged-appendonlydir
# A failover takes 2 s, and 12 s if its first vote is split. One that has not come after this will not come.
FAILOVER_PATIENCE_S=20

NODE_PORT=${NODE_PORT:-6379}
MASTER_NAME=${MASTER_NAME:-mymaster}
SENTINELS=${SENTINELS:-}

# shellcheck source=redis-conf/access.sh
. "$HERE/access.sh"
# shellcheck source=redis-conf/ask.sh
. "$HERE/ask.sh"

main() {
    # A write beyond a limit of the file's size (ulimit -f, quotas of some file systems) has to fail as on a full disk, so
    # that Redis refuses writes until there is room; by default the signal kills it. Ignored signals survive exec.
    trap '' XFSZ
    refuse_unusable_access
    refuse_unread_snapshot
    torn=$(sh "$HERE/torn-tail.sh" "$AOF")
    [ -z "$torn" ] || log "$torn"
    write_config
    if [ -z "$SENTINELS" ]; then
        log "no SENTINELS: a single instance, always master"
        exec redis-server "$CONFIG"
    fi
    while :; do
        start_if_decided
        sleep 0.1
    done
}

# Starts the server when role and disk allow it, otherwise returns.
start_if_decided() {
    answer=$(agreed_master)
    master=${answer% *} master_state=${answer#* }
    if [ -z "$master" ]; then
        waiting "for a majority of the Sentinels ($SENTINELS) to agree on the master \"$MASTER_NAME\""
    elif [ "$master" != "$NODE_IP:$NODE_PORT" ]; then
        if ! holds_data && remembered_as_electable; then
            # With the disk of the master lost in the same moment, they would promote this empty node over one that
            # holds everything (seen: all data gone).
            waiting "for the Sentinels to forget what this node held: this disk is EMPTY, and they may promote it for that"
        elif ! loads && ! serves "$master"; then
            waiting "for $master to serve: the AOF on this disk is DAMAGED, and there is nothing yet to replace it with"
        elif ! loads; then
            put_aside
        else
            start_replica "${master%:*}" "${master##*:}"
        fi
    else
        peers=$(peer_states)
        if holds_data; then
            if expects_failover; then
                waiting "for a failover: the Sentinels still name this node (state: $master_state), but $successor can take over"
            else
                start_master "the Sentinels name this node"
            fi
        elif successor=$(peer_with keys '.*'); then
            waiting "for a failover: this disk is EMPTY but $successor holds keys, so this node must not be master"
        elif silent=$(peer_with silent '.*'); then
            waiting "for $silent to answer: this disk is empty, and it may hold data"
        else
            start_master "first start: the Sentinels name this node, and all nodes are empty"
        fi
    fi
}

# A master that crashed and restarts within a second or two meets a failover that has been decided but not yet recorded,
# and one that serves meanwhile is a second master (measured: up to 100 writes accepted, all lost, and 10 s until it is
# demoted). No Sentinel can call the failover off, so a node that a running replica could replace leaves the field
# to it. After a cold start no replica has followed this run of the stack yet, and the node simply starts.
expects_failover() {
    if successor=$(peer_with '.*' 'master\|followed'); then
        :
    elif [ "$master_state" != up ] && successor=$(peer_with '.*' replica); then
        :
    else
        return 1
    fi
    now=$(date +%s)
    expecting_since=${expecting_since:-$now}
    [ "$master_state" = failover ] || [ $((now - expecting_since)) -lt "$FAILOVER_PATIENCE_S" ]
}

# Prints the first peer with this data state and relation (regular expressions); fails if there is none.
peer_with() {
    echo "$peers" | sed -n "s/^\([^ ]*\) \($1\) \($2\)\$/\1/p" | grep -m 1 .
}

start_master() {
    log "starting as master ($1)"
    rm -f "$FIRST_SYNC_PENDING"
    exec redis-server "$CONFIG"
}

start_replica() {
    # Absent on a new disk.
    cp "$MANIFEST" "$STARTED_WITH" 2>/dev/null || rm -f "$STARTED_WITH"
    if holds_data; then
        log "starting as replica of $1:$2"
    else
        log "starting as replica of $1:$2 on an empty disk, not electable before the first synchronisation"
        start_unelectable
    fi
    exec redis-server "$CONFIG" --replicaof "$1" "$2"
}

# With priority 0 no Sentinel promotes this node: an empty data set must not win over one that holds positions.
# The watcher lifts it. It is forked twice so that it becomes a child of the container's init and is reaped there.
start_unelectable() {
    touch "$FIRST_SYNC_PENDING"
    echo "replica-priority 0" >>"$CONFIG"
    (sh "$HERE/first-sync.sh" "$FIRST_SYNC_PENDING" &)
}

# The server creates its (empty) AOF as soon as it runs, so files alone prove nothing while the first copy from the
# master is pending. A master that has run holds data, even if that is zero keys.
holds_data() {
    [ -e "$AOF" ] && [ ! -e "$FIRST_SYNC_PENDING" ]
}

# Whether Redis can load this disk. A replica that has loaded its AOF then copies the master's data, which makes a new
# manifest; with the one of the last start it may have failed, and is tried. Only Redis itself can tell: redis-check-aof
# overlooks a damaged command, and objects to a torn tail, which Redis cuts off.
loads() {
    [ -n "${damage+tried}" ] || damage=$(try_to_load)
    [ -z "$damage" ]
}

# Prints what Redis says if it cannot load the AOF.
try_to_load() {
    cmp -s "$MANIFEST" "$STARTED_WITH" || return 0
    set -- --port 0 --unixsocket /tmp/trial.sock --logfile /tmp/trial.log
    ! uses_tls || set -- "$@" --tls-port 0
    redis-server "$CONFIG" "$@" >/dev/null &
    until said=$(REDIS_TLS=no && cli health 1 -s /tmp/trial.sock INFO persistence 2>/dev/null); echo "$said" | grep -q '^loading:0'; do
        kill -0 $! 2>/dev/null || break
        case $said in
            NOAUTH* | WRONGPASS* | NOPERM*)
                log "a trial of the disk does not tell how it went, this node starts without: $said" >&2
                break
                ;;
        esac
        sleep 0.1
    done
    kill -KILL $! 2>/dev/null || :
    status=0
    wait $! || status=$?
    # Killed by us if it has loaded, by the kernel if the memory did not suffice; 1 is a disk that it cannot read.
    [ "$status" -ne 1 ] || sed -n '$s/^.* # //p' /tmp/trial.log
    rm -f /tmp/trial.log
}

# The master's data replace it. What was not the whole copy of another data set either is worth nothing.
put_aside() {
    # The last copy of a master; alone it would be taken for a restored snapshot.
    [ ! -e "$DATA/dump.rdb" ] || mv "$DATA/dump.rdb" "$AOF"
    if holds_data; then
        rm -rf "$DAMAGED"
        mv "$AOF" "$DAMAGED"
        log "the AOF on this disk was DAMAGED and is kept as $DAMAGED; everything is copied from $master; Redis said: $damage"
    else
        rm -rf "$AOF"
        log "an unfinished first copy was DAMAGED and is removed; everything is copied from $master; Redis said: $damage"
    fi
    damage=
}

# Whether a node is master and has loaded its disk.
serves() {
    [ "$(ask "$1" ROLE | head -n 1)" = master ]
}

# With an AOF configured Redis does not read dump.rdb: a restored snapshot would silently start as an empty data set.
refuse_unread_snapshot() {
    if [ -e "$DATA/dump.rdb" ] && [ ! -e "$AOF" ]; then
        log "$DATA/dump.rdb exists without $AOF, and Redis would ignore it: convert it first" \
            "(start redis-server on it with --appendonly no, then CONFIG SET appendonly yes), or remove it"
        # Slows down the restart policy's loop.
        sleep 5
        exit 1
    fi
}

refuse_unusable_access() {
    problem=$(check_access health replica && check_default_user) && return
    log "$problem"
    # As above.
    sleep 5
    exit 1
}

# Redis loads an AOF as the user default, and silently leaves out all transactions in it that this user may not carry out
# (redis/redis#14541, mended at the end of 2025). So it is off, and has all rights.
check_default_user() {
    ! uses_logins || grep -Eq '^user default off resetpass ~\* &\* \+@all *$' "$ACL_FILE" ||
        { echo "$ACL_FILE: the user default has to be \"off resetpass ~* &* +@all\", or a restart loses transactions" && return 1; }
}

# In /tmp and written anew at each start: Sentinels send CONFIG REWRITE, and nothing of that may outlive the process.
write_config() {
    # It holds a password.
    ! uses_logins || umask 077
    rm -f "$CONFIG"
    { cat "$HERE/redis.conf" && access_settings "$NODE_PORT" && node_settings; } >"$CONFIG"
}

node_settings() {
    cat <<SETTINGS
maxmemory ${REDIS_MAXMEMORY:-512mb}
min-replicas-to-write ${REDIS_MIN_REPLICAS:-1}
min-replicas-max-lag ${REDIS_MIN_REPLICAS_MAX_LAG:-2}
replica-announce-ip $NODE_IP
replica-announce-port $NODE_PORT
SETTINGS
    [ -z "${BIND:-}" ] || echo "bind $BIND"
    uses_logins || return 0
    cat <<SETTINGS
masteruser replica
masterauth $(password_of replica)
SETTINGS
}

log() {
    echo "node $NODE_IP: $*"
}

waiting_reason=
waiting_polls=0
# Logs a reason at once when it is new, then about every 5 s.
waiting() {
    if [ "$1" != "$waiting_reason" ] || [ "$waiting_polls" -ge 50 ]; then
        log "waiting $1"
        waiting_reason=$1
        waiting_polls=0
    fi
    waiting_polls=$((waiting_polls + 1))
}

main
