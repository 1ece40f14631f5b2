#!/bin/sh
# redis-cli to this container's own server, be it a node or a Sentinel, with the stack's encryption and as the user CLI_USER
# (default: admin). Arguments are those of redis-cli.
set -eu

# shellcheck source=redis-conf/access.sh
. "$(dirname "$0")/access.sh"

cli_here "${CLI_USER:-admin}" 0 "$@"
