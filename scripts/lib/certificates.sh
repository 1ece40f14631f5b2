# shellcheck shell=bash
# Which services have certificates, for which names. Needs secrets.sh.

# The template's own. Others, such as redis-4, get one when they are named.
CERTIFIED=(redis-1 redis-2 redis-3 sentinel-1 sentinel-2 sentinel-3 trader trader-2 metrics admin)

# Prints "SERVICE UID USAGE NAMES" of one service, as certificate-files.sh reads it.
certificate_request() { # certificate_request <service>
    local service=$1 subnet names extra number=${1##*-}
    subnet=$(setting SUBNET_PREFIX 172.28.77)
    names="DNS:$service,DNS:localhost,IP:127.0.0.1"
    extra=$(setting CERTS_EXTRA_NAMES)
    [[ -z $extra ]] || names+=,${extra// /}
    # Servers are clients too: of their master, of the nodes, of each other. Sentinels name nodes by their addresses.
    case $service in
        redis-[1-9]) echo "$service $REDIS_UID serverAuth,clientAuth $names,IP:$subnet.1$number" ;;
        sentinel-[1-9]) echo "$service $REDIS_UID serverAuth,clientAuth $names,IP:$subnet.2$number" ;;
        trader | trader-[2-9]) echo "$service $TRADER_UID clientAuth DNS:$service" ;;
        metrics) echo "$service $METRICS_UID clientAuth DNS:$service" ;;
        admin) echo "$service $(id -u) clientAuth DNS:$service" ;;
        *)
            fail "there is no service \"$service\" that needs a certificate" \
                "one of: ${CERTIFIED[*]}; or redis-4, sentinel-4 and so on, up to 9"
            ;;
    esac
}

# With a certificate already, and the template's own.
known_services() {
    { printf '%s\n' "${CERTIFIED[@]}" && with_secrets certificate-files.sh services; } | awk '!seen[$0]++'
}

check_days() { # check_days <setting> <default>
    local days
    days=$(setting "$1" "$2")
    [[ $days =~ ^[1-9][0-9]{0,4}$ ]] || fail "$1=$days is not a number of days" "for example $1=$2"
    printf '%s\n' "$days"
}
