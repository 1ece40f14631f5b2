# shellcheck shell=bash
# Shows that the stack trades: the node's own status, and its orders in Redis becoming more.

show_that_it_trades() { # show_that_it_trades <trader service>...
    local trader after
    local -A before
    for trader in "$@"; do before[$trader]=$(orders_in_redis "$trader"); done
    step "Status"
    in_trader python -m trader_node.status || note "the status command failed"
    sleep "$(setting SHOW_SECONDS 2)"
    for trader in "$@"; do
        after=$(orders_in_redis "$trader")
        if ((after > before[$trader])); then
            step "Trading: orders in Redis rose from ${before[$trader]} to $after ($(trader_id_of "$trader"))"
        else
            step "Running; no new order within a few seconds (orders in Redis: $after, $(trader_id_of "$trader"))"
        fi
    done
    note "./scripts/status, ./scripts/positions, ./scripts/logs trader, ./scripts/down"
}

# Any node will do: a replica is at most a moment behind.
orders_in_redis() { # orders_in_redis <trader service>
    redis_cli redis-1 SCARD "trader-$(trader_id_of "$1"):index:orders" 2>/dev/null |
        grep -E '^[0-9]+$' || echo 0
}

trader_id_of() { # trader_id_of <service>
    if [[ $1 == trader-2 ]]; then setting TRADER_2_ID TRADER-002; else setting TRADER_ID TRADER-001; fi
}
