# shellcheck shell=bash
# Shows that the stack trades: the node's own status, and its orders in Redis becoming more.

show_that_it_trades() {
    local before after
    before=$(orders_in_redis)
    step "Status"
    in_trader python -m trader_node.status || note "the status command failed"
    sleep "$(setting SHOW_SECONDS 2)"
    after=$(orders_in_redis)
    if ((after > before)); then
        step "Trading: orders in Redis rose from $before to $after"
    else
        step "Running; no new order within a few seconds (orders in Redis: $after)"
    fi
    note "./scripts/status, ./scripts/positions, ./scripts/logs trader, ./scripts/down"
}

# Any node will do: a replica is at most a moment behind.
orders_in_redis() {
    redis_cli redis-1 SCARD "trader-$(setting TRADER_ID TRADER-001):index:orders" 2>/dev/null |
        grep -E '^[0-9]+$' || echo 0
}
