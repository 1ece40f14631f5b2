#!/bin/sh
# Brings a Sentinel that has just started to its steady pace. Runs beside it, once per start.
# Environment: MASTER_NAME, SENTINEL_PORT, SENTINEL_IP, SENTINELS, SENTINEL_DOWN_AFTER_MS.
#
# How often a Sentinel looks at the nodes and talks to the others can only be set by SENTINEL DEBUG (since Redis 7.0), and
# nothing of it persists. With the defaults (PING every 1 s, hello every 2 s, INFO every 10 s) and a down-after of about a
# second
# - a Sentinel that has just switched masters sends its first PING when down-after has already passed. If two switch at
#   the same moment they declare the new master dead: one in ten failovers was followed by a needless second one;
# - a master that returns from a partition is demoted only after 4 hello periods and an INFO, 10 to 12 s, and may accept
#   writes meanwhile;
# - roles, priorities and new replicas are noticed up to 10 s late.
set -eu

HERE=$(dirname "$0")
# shellcheck source=redis-conf/access.sh
. /opt/redis-node/access.sh

# The nodes start after the Sentinels (they ask them). A master that needs a little longer than down-after, on a busy
# machine, is no reason for a failover. entrypoint.sh starts the Sentinel with this down-after.
GRACE_S=3

main() {
    started=$(date +%s)
    wait_for_sentinel
    # In a hurry until ready to fail over: at a steady pace reconnecting to the nodes and their first INFO would delay the
    # start of the whole stack.
    set_periods 100 500 100 || true
    wait_for_master || outlast_the_outage
    set_down_after "$(own_share_of_ms "$SENTINEL_DOWN_AFTER_MS")"
    # Not for ever: a node may be down. The probe itself waits for 3 s.
    for _ in 1 2 3 4 5; do
        sh "$HERE/healthcheck.sh" >/dev/null && break
    done
    set_periods "$(steady_ping_ms)" 500 1000 ||
        echo "SENTINEL DEBUG is not supported here: a failover may be followed by a second one, see $0"
}

wait_for_sentinel() {
    polls=0
    until ask PING >/dev/null; do
        polls=$((polls + 1))
        [ "$polls" -lt 200 ] || exit 1
        sleep 0.05
    done
}

wait_for_master() {
    deadline=$(($(date +%s) + GRACE_S))
    until master_has_answered; do
        [ "$(date +%s)" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# The run id comes with the first answer to INFO. The flags would not do: a connection that is only being tried counts as
# connected.
master_has_answered() {
    [ -n "$(ask SENTINEL MASTER "$MASTER_NAME" | grep -x -A 1 runid | tail -n 1)" ]
}

# This Sentinel has started without a master. It promotes no replica that has been without one for longer than ten
# down-afters, not counting the time for which it has seen the master down itself: Sentinels that are started ten seconds
# into an outage would never promote anybody (seen). So until a master answers, old or new, down-after grows with the
# time of silence, and stays so much below it that the master remains suspected.
outlast_the_outage() {
    set_periods "$(steady_ping_ms)" 500 1000 || true
    base_ms=$((GRACE_S * 1500))
    [ "$SENTINEL_DOWN_AFTER_MS" -le "$base_ms" ] || base_ms=$SENTINEL_DOWN_AFTER_MS
    set_down_after "$(own_share_of_ms "$base_ms")"
    until master_has_answered; do
        longer_ms=$((($(date +%s) - started) * 750))
        if [ $((longer_ms * 2)) -ge $((base_ms * 3)) ]; then
            base_ms=$longer_ms
            set_down_after "$(own_share_of_ms "$base_ms")"
        fi
        sleep 0.2
    done
}

set_down_after() { # set_down_after <ms>
    ask SENTINEL SET "$MASTER_NAME" down-after-milliseconds "$1" >/dev/null
}

# The last Sentinel of the list waits as long as set, the first one 30 % less, those between in equal steps. A master that
# is killed ends its connections to all of them in one moment: with equal settings they suspect it in one moment, each
# votes for itself, none is elected, and the next attempt comes only after twice the failover timeout (seen in one of
# twenty failovers). Like this the second one completes the quorum and has the others' votes before they stand for
# election themselves.
own_share_of_ms() { # own_share_of_ms <ms>
    rank=0 count=0
    for sentinel in $SENTINELS; do
        count=$((count + 1))
        [ "$sentinel" != "$SENTINEL_IP:$SENTINEL_PORT" ] || rank=$count
    done
    earlier=0
    if [ "$rank" -gt 0 ] && [ "$count" -gt 1 ]; then
        earlier=$(($1 * 30 * (count - rank) / (count - 1) / 100))
    fi
    echo $(($1 - earlier))
}

# Several PINGs per down-after, so that a single late answer proves nothing. Not below 400 ms: once the master is down,
# only a replica whose INFO is at most five PING periods old may be promoted, and INFO comes every second, on a busy
# machine a little later. Where none qualifies the failover is given up (-failover-abort-no-good-slave) and repeated only
# after twice the failover timeout: with 125 ms that was every other one, with 250 ms about one in twenty.
steady_ping_ms() {
    ping_ms=$((SENTINEL_DOWN_AFTER_MS / 4))
    [ "$ping_ms" -ge 400 ] || ping_ms=400
    [ "$ping_ms" -le 1000 ] || ping_ms=1000
    echo "$ping_ms"
}

set_periods() { # set_periods <ping ms> <hello ms> <info ms>
    [ "$(ask SENTINEL DEBUG PING-PERIOD "$1" PUBLISH-PERIOD "$2" INFO-PERIOD "$3")" = OK ]
}

ask() {
    cli_here admin 1 "$@" 2>/dev/null
}

main
