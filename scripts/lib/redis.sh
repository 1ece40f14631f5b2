# shellcheck shell=bash
# Redis' own commands at a node or a Sentinel, with whatever login and encryption the stack has. Needs compose.sh.

# redis_cli <service> <argument of redis-cli>...
redis_cli() {
    local service=$1
    shift
    compose exec -T "$service" sh /opt/redis-node/cli.sh "$@" </dev/null
}
