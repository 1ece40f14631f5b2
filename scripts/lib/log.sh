# shellcheck shell=bash
# Messages to people: steps on stdout, errors on stderr.

step() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }

# warn <what is wrong> [what to do]...
warn() {
    printf 'warning: %s\n' "$1"
    shift
    local line
    for line in "$@"; do printf '         %s\n' "$line"; done
} >&2

# fail <what is wrong> [what to do]...
fail() {
    {
        printf 'error: %s\n' "$1"
        shift
        local line
        for line in "$@"; do printf '       %s\n' "$line"; done
    } >&2
    exit 1
}
