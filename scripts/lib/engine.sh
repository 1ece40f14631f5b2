# shellcheck shell=bash
# Docker Engine and Compose v2: present, running, new enough. On Debian and Ubuntu root gets what is missing installed;
# everybody else is told what to do.

# `include` came with 2.20.0, `required: false` in depends_on with 2.20.2.
MINIMUM_COMPOSE=2.20.2
DOCKERD_LOG=/var/log/dockerd.log

ensure_engine() {
    engine_answers && return
    # A remote engine is not ours to repair.
    [[ -z ${DOCKER_HOST:-} ]] ||
        fail "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST" "start it, or unset DOCKER_HOST"
    if ! is_root; then
        fail "the Docker engine does not answer ($(engine_error))" \
            "if it runs: allow your user to use it (sudo usermod -aG docker \"\$USER\", then log in again)" \
            "if it does not: sudo systemctl start docker, or start Docker Desktop" \
            "if it is missing: install Docker Engine and the Compose plugin (or run this script as root on Debian or Ubuntu)"
    fi
    if ! command -v dockerd >/dev/null; then install_engine; fi
    engine_answers || start_engine
}

# A client on the PATH says nothing about an engine.
engine_answers() { command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1; }

engine_error() { docker info 2>&1 >/dev/null | grep -v '^$' | tail -n 1 || true; }

install_engine() {
    has_apt || fail "Docker Engine is not installed" "install it and the Compose plugin; this script can do so on Debian and Ubuntu"
    step "Installing Docker Engine (package docker.io)"
    apt-get update --quiet </dev/null
    apt_install docker.io iptables ca-certificates
    hash -r
}

start_engine() {
    step "Starting the Docker engine"
    if [[ -d /run/systemd/system ]]; then
        systemctl start docker || fail "systemctl start docker failed" "see: journalctl -u docker"
    else
        note "no systemd here: running dockerd in the background, log in $DOCKERD_LOG"
        remove_stale_pid_file /var/run/docker.pid dockerd
        remove_stale_pid_file /var/run/docker/containerd/containerd.pid containerd
        setsid dockerd >>"$DOCKERD_LOG" 2>&1 </dev/null &
    fi
    local _
    for _ in {1..60}; do
        engine_answers && return
        sleep 0.5
    done
    fail "the Docker engine did not start within 30 s" \
        "$(tail -n 3 "$DOCKERD_LOG" 2>/dev/null || echo "see its log")"
}

# An engine that was killed leaves its process id behind, and the next one refuses to start, or waits for a containerd that
# is not there, if that id belongs to any process by then.
remove_stale_pid_file() { # remove_stale_pid_file <file> <name of the process>
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 0
    [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$2" ]] || rm -f "$1"
}

ensure_compose() {
    if [[ -z $(compose_version) ]]; then install_compose; fi
    local version
    version=$(compose_version)
    [[ -n $version ]] || fail "\`docker compose\` does not work" "install the Docker Compose plugin, $MINIMUM_COMPOSE or newer"
    is_version_at_least "$version" "$MINIMUM_COMPOSE" ||
        fail "Docker Compose $version is too old" "this stack needs $MINIMUM_COMPOSE or newer: upgrade the Compose plugin"
}

compose_version() { docker compose version --short 2>/dev/null | sed 's/^v//' || true; }

is_version_at_least() { # is_version_at_least <version> <minimum>
    [[ $(printf '%s\n' "${1%%[-+]*}" "$2" | sort -V | head -n 1) == "$2" ]]
}

install_compose() {
    if ! is_root || ! has_apt; then
        fail "Docker Compose v2 is not installed" \
            "install the Compose plugin, $MINIMUM_COMPOSE or newer (root on Debian or Ubuntu: this script does it)"
    fi
    step "Installing Docker Compose v2"
    apt-get update --quiet </dev/null
    local package
    for package in docker-compose-v2 docker-compose; do
        if is_version_at_least "$(apt_candidate "$package")" "$MINIMUM_COMPOSE"; then
            apt_install "$package"
            return
        fi
    done
    install_compose_from_newer_debian
}

# Version that apt would install, without epoch; 0 when there is none.
apt_candidate() {
    local version
    version=$(apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }')
    version=${version#*:}
    printf '%s\n' "${version:-0}"
}

# Bookworm has only the retired v1. The plugin of the next release is one static binary that runs here as well.
install_compose_from_newer_debian() {
    local newer=trixie mirror directory
    mirror=$(debian_mirror_of "$(os_release VERSION_CODENAME)")
    [[ -n $mirror ]] ||
        fail "this release has no package of Docker Compose v2" "install the Compose plugin, $MINIMUM_COMPOSE or newer"
    note "this release has none: taking the plugin binary from Debian $newer, package docker-compose"
    directory=$(mktemp -d)
    (
        cd "$directory"
        download_from_suite "$newer" docker-compose "$mirror"
        dpkg-deb --extract docker-compose_*.deb .
        install -D -m 0755 usr/libexec/docker/cli-plugins/docker-compose /usr/local/lib/docker/cli-plugins/docker-compose
    ) || fail "could not take docker-compose from Debian $newer" "install the Compose plugin, $MINIMUM_COMPOSE or newer"
    rm -rf "$directory"
}
