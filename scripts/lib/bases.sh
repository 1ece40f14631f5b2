# shellcheck shell=bash
# The base images: the pinned official ones; without a registry, minimal Debian systems made here. The Dockerfiles accept
# both, the choice is only a build argument.

PULL_TIMEOUT_S=300

choose_bases() {
    choose_base REDIS_IMAGE bookworm
    choose_base PYTHON_IMAGE trixie
}

# Only where these images are wanted, as nothing else is built on them.
choose_observability_bases() {
    choose_base REDIS_EXPORTER_IMAGE trixie
    choose_base PROMETHEUS_IMAGE trixie
    choose_base ALERTMANAGER_IMAGE trixie
}

# choose_base <setting> <Debian suite that has the same software>; exports the setting
choose_base() {
    local name=$1 suite=$2 wanted image
    wanted=$(setting "$name")
    image=${wanted:-$(pinned_image "$name")}
    local fallback="nautilus-redis-ha/base:$suite"
    if image_exists "$image" || pull_unless_replaced "$image" "$fallback"; then
        export "$name=$image"
    elif [[ -n $wanted ]]; then
        fail "$name=$wanted is neither present nor can it be pulled" "check the name, or unset $name"
    else
        image_exists "$fallback" || make_debian_base "$suite" "$fallback"
        export "$name=$fallback"
    fi
}

# What the drill of a rolling upgrade goes to; without a registry the base that the stack has, so that only the image is
# another one, not the version.
choose_upgrade_base() {
    local wanted image
    wanted=$(setting UPGRADE_REDIS_IMAGE)
    image=${wanted:-$(pinned_image UPGRADE_REDIS_IMAGE)}
    if image_exists "$image" || pull_unless_replaced "$image" nautilus-redis-ha/base:bookworm; then
        export UPGRADE_REDIS_IMAGE=$image
    elif [[ -n $wanted ]]; then
        fail "UPGRADE_REDIS_IMAGE=$wanted is neither present nor can it be pulled" "check the name, or unset it"
    else
        export UPGRADE_REDIS_IMAGE=$REDIS_IMAGE
    fi
}

# The compose files are where versions are pinned.
pinned_image() { sed -n "s/.*{$1:-\(.*\)}\$/\1/p" "$ROOT"/compose/{base,drill,observability,test}.yaml | head -n 1; }

image_exists() { docker image inspect "$1" >/dev/null 2>&1; }

# Where a replacement was made earlier there was no registry; asking again would delay every start.
pull_unless_replaced() { # pull_unless_replaced <image> <replacement>
    if image_exists "$2"; then return 1; fi
    step "Pulling $1"
    timeout "$PULL_TIMEOUT_S" docker pull --quiet "$1" </dev/null
}

make_debian_base() { # make_debian_base <suite> <image>
    step "No registry: building $2, a minimal Debian $1, with debootstrap"
    if ! is_root || ! has_apt; then
        fail "the base images can be neither pulled nor built here" \
            "give the Docker engine access to a registry, or set REDIS_IMAGE and PYTHON_IMAGE to images you have" \
            "(building them needs root on Debian or Ubuntu)"
    fi
    command -v debootstrap >/dev/null || { apt-get update --quiet </dev/null && apt_install debootstrap; }
    [[ -r $DEBIAN_KEYRING ]] || apt_install debian-archive-keyring

    local suite=$1 image=$2 release directory mirror
    release=$(os_release VERSION_CODENAME)
    # Elsewhere than on Debian debootstrap uses its own default mirror.
    mirror=$(debian_mirror_of "$release")
    directory=$(mktemp -d /var/tmp/base.XXXXXX)
    if ! debootstrap --variant=minbase --keyring="$DEBIAN_KEYRING" "$suite" "$directory" ${mirror:+"$mirror"} \
        >"$directory.log" 2>&1 </dev/null; then
        tail -n 5 "$directory.log" >&2
        rm -rf "$directory"
        fail "debootstrap $suite failed, see $directory.log"
    fi
    add_security_updates "$suite" "$directory" "$release"
    rm -rf "$directory"/var/cache/apt/archives/*.deb "$directory"/var/lib/apt/lists/*
    tar --create --directory "$directory" . | docker import - "$image" >/dev/null
    rm -rf "$directory" "$directory.log"
}

add_security_updates() { # add_security_updates <suite> <directory> <release of this host>
    local mirror
    mirror=$(debian_mirror_of "$3-security")
    [[ -n $mirror ]] || return 0
    echo "deb $mirror $1-security main" >>"$2/etc/apt/sources.list"
}
