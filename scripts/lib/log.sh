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

# Asks whether to go on; fails with what was not done unless the answer is yes. Needs a terminal, or --yes instead.
confirm() { # confirm <what needs it> <question> <what was not done>
    local answer
    [[ -t 0 ]] || fail "$1 needs a confirmation, and there is no terminal" "add --yes"
    read -rp "$2 Type yes: " answer
    [[ $answer == yes ]] || fail "$3"
}

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
