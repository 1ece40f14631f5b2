# shellcheck shell=sh
# Questions to Sentinels and peers, sourced by entrypoint.sh. Every question is bounded: a container that is down does
# not refuse a connection, it swallows it.
#
# Needs: SENTINELS ("ip:port ..."), PEERS ("ip:port ..."), NODE_IP, NODE_PORT, MASTER_NAME.

ask() { # ask <ip:port> [command...]; without a command, commands come from stdin
    address=$1
    shift
    timeout 1 redis-cli -h "${address%:*}" -p "${address##*:}" "$@" 2>/dev/null
}

# Prints "<config-epoch> <ip>:<port>" as one Sentinel sees the master; nothing if it does not answer.
sentinel_view() {
    printf 'SENTINEL GET-MASTER-ADDR-BY-NAME %s\nSENTINEL MASTER %s\n' "$MASTER_NAME" "$MASTER_NAME" |
        ask "$1" |
        awk 'NR == 1 { ip = $0 }
             NR == 2 { port = $0 }
             field == "config-epoch" { epoch = $0 }
             { field = $0 }
             END { if (ip != "" && port ~ /^[0-9]+$/ && epoch != "") print epoch, ip ":" port }'
}

# Prints "<ip>:<port>" of the master once a majority of the Sentinels has answered; nothing otherwise.
#
# Among the answers the highest config-epoch wins. Each epoch was granted by a majority's vote, so the Sentinel that
# already shows it has promoted that node; the others only have not heard of it yet (hellos travel every 2 s). Counting
# votes per address instead would let an old master that restarts within those seconds serve again.
agreed_master() {
    for sentinel in $SENTINELS; do
        sentinel_view "$sentinel" &
    done | sort -rn | awk -v listed="$(count_words "$SENTINELS")" '
        NR == 1 { epoch = $1; address = $2 }
        $1 == epoch && $2 != address { contradiction = 1 }
        END { if (NR * 2 > listed && !contradiction) print address }'
}

# Prints whether any peer holds keys: "keys <peer>", "silent <peer>" (at least one does not answer, or is still loading
# its disk), or "empty" when all of them have answered and hold nothing, in any database.
peers_hold() {
    silent=
    for peer in $PEERS; do
        [ "$peer" != "$NODE_IP:$NODE_PORT" ] || continue
        info=$(ask "$peer" INFO persistence keyspace | tr -d '\r') || info=
        case "$info" in
            *"
db"[0-9]*)
                echo "keys $peer"
                return
                ;;
            *"
loading:0"*) ;;
            *) silent=$peer ;;
        esac
    done
    if [ -n "$silent" ]; then echo "silent $silent"; else echo "empty"; fi
}

count_words() {
    # shellcheck disable=SC2086 # splitting is the purpose
    set -- $1
    echo $#
}
