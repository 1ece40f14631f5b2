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

# A path of the command line counts from where the caller is. Every script has just come from there when it reads this file.
CALLED_FROM=${OLDPWD:-$PWD}

callers_path() { # callers_path <option or what it is> <path>
    [[ -n $2 ]] || fail "$1 needs a path" "see ./scripts/$(basename "$0") --help"
    (cd "$CALLED_FROM" && realpath --canonicalize-missing -- "$2")
}
