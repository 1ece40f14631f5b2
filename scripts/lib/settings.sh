# shellcheck shell=bash
# Settings as Compose sees them: the environment, then .env, then the default.

# Without symlinks: containers are known by the paths of the files with which they were made.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
DEFAULT_PROJECT=nautilus-redis-ha

# setting <name> [default]
setting() {
    local name=$1 default=${2-} value
    if [[ -v $name ]]; then value=${!name}; else value=$(setting_in_file "$name"); fi
    printf '%s\n' "${value:-$default}"
}

# The last assignment wins; quotes and trailing comments are not part of the value.
setting_in_file() {
    [[ -f $ROOT/.env ]] || return 0
    sed -n "s/^[[:space:]]*\(export \)\?$1=//p" "$ROOT/.env" | tail -n 1 |
        sed -e 's/^"\([^"]*\)".*$/\1/' -e "s/^'\([^']*\)'.*$/\1/" -e 's/[[:space:]]\+#.*$//' -e 's/[[:space:]]*$//'
}

project_name() { setting COMPOSE_PROJECT_NAME "$DEFAULT_PROJECT"; }
