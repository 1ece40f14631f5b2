#!/bin/sh
# Sets how often the Sentinel looks at the nodes and talks to the others. There are no configuration lines for it, only
# SENTINEL DEBUG (since Redis 7.0), and nothing persists, so this runs at each start.
# Arguments: port of the local Sentinel, its down-after-milliseconds.
#
# With the defaults (PING every 1 s, hello every 2 s, INFO every 10 s) and a down-after of about a second
# - a Sentinel that has just switched masters sends its first PING when down-after has already passed. If two switch at
#   the same moment they declare the new master dead: one in ten failovers was followed by a needless second one;
# - a master that returns from a partition is demoted only after 4 hello periods and an INFO, 10 to 12 s, and accepts
#   writes meanwhile;
# - roles, priorities and new replicas are noticed up to 10 s late.
set -eu

HERE=$(dirname "$0")
port=$1
down_after_ms=$2

set_periods() { # set_periods <ping ms> <hello ms> <info ms>
    timeout 1 redis-cli -p "$port" \
        SENTINEL DEBUG PING-PERIOD "$1" PUBLISH-PERIOD "$2" INFO-PERIOD "$3" 2>/dev/null
}

# First in a hurry, until this Sentinel is ready to fail over: it starts before the nodes do (they wait for it), and
# reconnecting and reading INFO at a steady pace would delay the start of the whole stack.
polls=0
until answer=$(set_periods 100 500 100); do
    polls=$((polls + 1))
    [ "$polls" -lt 100 ] || exit 0
    sleep 0.05
done
if [ "$answer" != OK ]; then
    echo "SENTINEL DEBUG is not supported here ($answer): a failover may be followed by a second one, see $0"
    exit 0
fi
# Not for ever: a node may be down when the Sentinel starts. The probe itself waits 3 s at most.
for _ in 1 2 3 4 5; do
    sh "$HERE/healthcheck.sh" >/dev/null && break
done

ping_ms=$((down_after_ms / 4))
[ "$ping_ms" -le 1000 ] || ping_ms=1000
set_periods "$ping_ms" 500 1000 >/dev/null
