#!/bin/sh
# redis-cli to this container's own server, be it a node or a Sentinel. Arguments are those of redis-cli.
set -eu

if [ -n "${SENTINEL_IP:-}" ]; then
    port=${SENTINEL_PORT:-26379}
else
    port=${NODE_PORT:-6379}
fi

exec redis-cli -p "$port" "$@"
