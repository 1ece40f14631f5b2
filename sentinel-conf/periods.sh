#!/bin/sh
# Sets how often the Sentinel looks at the nodes. There are no configuration lines for it, only a command (since
# Redis 7.0), and nothing persists. Argument: port of the local Sentinel.
#
# First every 100 ms, until this Sentinel is ready to fail over: it starts before the nodes do (they wait for it), and
# reconnecting and reading INFO at the usual pace would delay the whole stack by seconds. Then INFO every second instead
# of every 10 s, so that roles, priorities and new replicas are noticed at once.
set -eu

HERE=$(dirname "$0")
port=$1

set_periods() { # set_periods <ping ms> <info ms>
    timeout 1 redis-cli -p "$port" SENTINEL DEBUG PING-PERIOD "$1" INFO-PERIOD "$2" 2>/dev/null
}

polls=0
until answer=$(set_periods 100 100); do
    polls=$((polls + 1))
    [ "$polls" -lt 100 ] || exit 0
    sleep 0.05
done
if [ "$answer" != OK ]; then
    echo "SENTINEL DEBUG is not supported here ($answer): roles are noticed within 10 s, not 1 s"
    exit 0
fi
# Not for ever: a node may be down when the Sentinel starts, and the probe itself waits 3 s at most.
for _ in 1 2 3 4 5; do
    sh "$HERE/healthcheck.sh" >/dev/null && break
done
set_periods 1000 1000 >/dev/null
