#!/bin/sh
# Tells a trading node from a hanging one by its heartbeat file. Prints one line with the reason; 0 healthy, 1 not.
#
# The node writes the file from its own event loop: an old file is a blocked loop. On the paper market there are always
# quotes, and fills unless orders are held back on request, so their absence is a fault too. A user's own node may be
# quiet for hours: there only a running, living node is asked for. An outage of Redis is none of its business while the
# node trades on: the link holds what it writes. But a link that has stopped, or cannot write its journal, stores nothing
# any more while the node trades on: that is the link's own file.
set -eu

file="${STATE_DIR:-/run/trader}/heartbeat"
link_file="${STATE_DIR:-/run/trader}/link"
# Seconds. The link writes its file every second; the rest leaves room for its restart by the supervisor.
link_stale_after="${HEALTH_LINK_STALE_SECS:-10}"
# Seconds. The heartbeat comes every second; the rest leaves room for a busy machine and for short pauses.
stale_after="${HEALTH_STALE_SECS:-5}"
quotes_after="${HEALTH_QUOTES_SECS:-10}"
fills_after="${HEALTH_FILLS_SECS:-15}"

fail() {
    echo "unhealthy: $*"
    exit 1
}

[ -r "$file" ] || fail "no heartbeat yet at $file: the node is starting, or has never run"

time=0 state=UNKNOWN since=0 paper=0 expect_fills=0 last_quote=0 last_fill=0 positions_open=0 fills=0 fills_since=0
while IFS='=' read -r name value; do
    # Only these names, so that nothing else in the file can set a variable here.
    case "$name" in
        time) time=$value ;;
        state) state=$value ;;
        since) since=$value ;;
        paper) paper=$value ;;
        expect_fills) expect_fills=$value ;;
        fills_since) fills_since=$value ;;
        last_quote) last_quote=$value ;;
        last_fill) last_fill=$value ;;
        positions_open) positions_open=$value ;;
        fills) fills=$value ;;
        *) ;;
    esac
done <"$file"

now=$(date +%s)

# A node that runs without a link has no such file.
if [ -r "$link_file" ]; then
    link_time=0 link_healthy=0 link_state=unknown link_reason=
    while IFS='=' read -r name value; do
        case "$name" in
            time) link_time=$value ;;
            healthy) link_healthy=$value ;;
            state) link_state=$value ;;
            reason) link_reason=$value ;;
            *) ;;
        esac
    done <"$link_file"
    [ "$link_healthy" -eq 1 ] || fail "link $link_state: $link_reason"
    age=$((now - link_time))
    [ "$age" -le "$link_stale_after" ] || fail "no sign of life of the link for $age s: it hangs, or is gone"
fi

# While it loads its cache no event loop runs that could write heartbeats.
[ "$state" != STARTING ] || fail "starting for $((now - since)) s"

age=$((now - time))
[ "$age" -le "$stale_after" ] || fail "last heartbeat $age s ago, state $state: the event loop hangs, or the node is gone"

case "$state" in
    RUNNING) ;;
    WAITING) fail "waiting for Redis for $((now - since)) s" ;;
    *) fail "state $state for $((now - since)) s" ;;
esac

if [ "$paper" -eq 1 ]; then
    quiet=$((now - last_quote))
    [ "$quiet" -le "$quotes_after" ] || fail "no quote for $quiet s"
    if [ "$expect_fills" -eq 1 ]; then
        # Counted from when fills are due: a node that goes on after a pause has not failed to trade meanwhile.
        [ "$last_fill" -ge "$fills_since" ] || last_fill=$fills_since
        quiet=$((now - last_fill))
        [ "$quiet" -le "$fills_after" ] || fail "no fill for $quiet s"
    fi
fi

echo "healthy: $positions_open positions open, $fills fills since start"
