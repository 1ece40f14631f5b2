# shellcheck shell=sh
# Questions to Sentinels and peers, sourced by entrypoint.sh. Every question is bounded: a container that is down does
# not refuse a connection, it swallows it.
#
# Needs access.sh, and SENTINELS ("ip:port ..."), PEERS ("ip:port ..."), NODE_IP, NODE_PORT, MASTER_NAME.

ask() { # ask <ip:port> [command...]; without a command, commands come from stdin
    address=$1
    shift
    cli health 1 -h "${address%:*}" -p "${address##*:}" "$@" 2>/dev/null
}

# Prints "<config-epoch> <ip>:<port> <up|down|failover>" as one Sentinel sees the master; nothing if it does not answer.
sentinel_view() {
    printf 'SENTINEL GET-MASTER-ADDR-BY-NAME %s\nSENTINEL MASTER %s\n' "$MASTER_NAME" "$MASTER_NAME" |
        ask "$1" |
        awk 'NR == 1 { ip = $0 }
             NR == 2 { port = $0 }
             field == "config-epoch" { epoch = $0 }
             field == "flags" { state = /failover_in_progress/ ? "failover" : /_down/ ? "down" : "up" }
             { field = $0 }
             END { if (ip != "" && port ~ /^[0-9]+$/ && epoch != "") print epoch, ip ":" port, state }'
}

# Prints "<ip>:<port> <state>" of the master once a majority of the Sentinels has answered; nothing otherwise. The state
# is the worst that any of them reports.
#
# Among the answers the highest config-epoch wins. Each epoch was granted by a majority's vote, so the Sentinel that
# already shows it has promoted that node; the others only have not heard of it yet (hellos travel every 2 s). Counting
# votes per address instead would let an old master that restarts within those seconds serve again.
agreed_master() {
    for sentinel in $SENTINELS; do
        sentinel_view "$sentinel" &
    done | sort -rn | awk -v listed="$(count_words "$SENTINELS")" '
        BEGIN { state = "up" }
        NR == 1 { epoch = $1; address = $2 }
        $1 == epoch && $2 != address { contradiction = 1 }
        $3 == "failover" || ($3 == "down" && state == "up") { state = $3 }
        END { if (NR * 2 > listed && !contradiction) print address, state }'
}

# Whether a Sentinel could still promote this node for what an earlier process of it has said. A Sentinel elects by the
# INFO that it got last, if that is not older than five PING periods (or three of INFO): 3 s at most with the periods of
# sentinel-conf/settle.sh.
remembered_as_electable() {
    for sentinel in $SENTINELS; do
        ask "$sentinel" SENTINEL REPLICAS "$MASTER_NAME" |
            awk -v me="$NODE_IP:$NODE_PORT" '
                field == "ip" { ip = $0 }
                field == "port" { port = $0 }
                field == "runid" { known = $0 != "" }
                field == "info-refresh" { age_ms = $0 }
                field == "slave-priority" && ip ":" port == me && known && $0 > 0 && age_ms < 6000 { print }
                { field = $0 }' &
    done | grep -q .
}

# Prints one line per peer, "<ip>:<port> <keys|empty|silent> <relation>". Silent also stands for a peer that is still
# loading its disk. Relations:
#   master     it is a master itself
#   followed   it could be promoted, and it replicated from this node's previous run
#   replica    it could be promoted
#   -          neither
peer_states() {
    for peer in $PEERS; do
        [ "$peer" != "$NODE_IP:$NODE_PORT" ] || continue
        ask "$peer" INFO persistence replication keyspace | tr -d '\r' |
            awk -F: -v peer="$peer" -v me="$NODE_IP" '
                { value[$1] = $2 }
                /^db[0-9]+:/ { keys = 1 }
                END {
                    data = keys ? "keys" : value["loading"] == "0" ? "empty" : "silent"
                    relation = "-"
                    if (value["role"] == "master") relation = "master"
                    else if (value["slave_priority"] > 0) {
                        # -1: never connected since it started.
                        connected = value["master_link_status"] == "up" || value["master_link_down_since_seconds"] >= 0
                        relation = value["master_host"] == me && connected ? "followed" : "replica"
                    }
                    print peer, data, relation
                }' &
    done | sort
}

count_words() {
    # shellcheck disable=SC2086 # splitting is the purpose
    set -- $1
    echo $#
}
