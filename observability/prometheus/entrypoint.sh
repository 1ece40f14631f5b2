#!/bin/sh
# Starts Prometheus. What it scrapes is written down here from the environment, as prometheus.yml cannot read that: every
# node, Sentinel and link by name, always, because a target that is down must be seen to be down.
#
# Environment: NODES and SENTINELS ("name:port ..." lists, asked through the exporter), LINKS ("name:port ..."), REDIS_TLS
# (yes, no), RETENTION_TIME, RETENTION_SIZE.
set -eu

TARGETS=/tmp/targets

main() {
    scheme=redis
    [ "${REDIS_TLS:-no}" = no ] || scheme=rediss
    mkdir -p "$TARGETS"
    # shellcheck disable=SC2086 # lists of words
    {
        through_exporter ${NODES:-} >"$TARGETS/redis.json"
        through_exporter ${SENTINELS:-} >"$TARGETS/sentinel.json"
        directly ${LINKS:-} >"$TARGETS/link.json"
    }
    exec prometheus --config.file=/opt/prometheus/prometheus.yml --storage.tsdb.path=/var/lib/metrics \
        --storage.tsdb.retention.time="${RETENTION_TIME:-15d}" --storage.tsdb.retention.size="${RETENTION_SIZE:-1GB}" \
        --enable-feature=auto-gomemlimit --query.timeout=20s --query.max-concurrency=8 \
        --alertmanager.notification-queue-capacity=1000 --rules.alert.resend-delay=15s --log.level=warn
}

through_exporter() {
    list "$@" | while IFS=: read -r name port; do
        printf '{"targets":["redis-exporter:9121"],"labels":{"instance":"%s","__param_target":"%s://%s:%s"}}\n' \
            "$name" "$scheme" "$name" "$port"
    done | array
}

directly() {
    list "$@" | while IFS=: read -r name port; do
        printf '{"targets":["%s:%s"],"labels":{"instance":"%s"}}\n' "$name" "$port" "$name"
    done | array
}

list() { [ $# -eq 0 ] || printf '%s\n' "$@"; }

# Lines to a JSON array.
array() { sed -e '1s/^/[/' -e '$!s/$/,/' -e '$s/$/]/'; }

main
