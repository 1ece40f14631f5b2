# shellcheck shell=bash
# One command at a time. A lock is held until the command ends, however it ends. Needs log.sh and settings.sh.

# The same for all users and sessions, which TMPDIR is not.
LOCKS_DIR=/tmp

# For whatever changes a stack: without it two commands at once would take away two nodes. A command that another one has
# started works under the lock of that one.
take_lock() {
    local project
    project=$(project_name)
    [[ ${STACK_LOCKED-} != "$project" ]] || return 0
    hold "$LOCKS_DIR/$project.operation.lock" "another command is changing the stack \"$project\" at the moment"
    export STACK_LOCKED=$project
}

# Where there is no flock (macOS) nobody is kept out.
hold() { # hold <file> <what to say if somebody else holds it>
    local file=$1 said=$2 lock
    command -v flock >/dev/null || return 0
    # Opened for reading, and by itself: Linux lets nobody, not even root, create what another user has in /tmp already.
    [[ -e $file ]] || (umask 022 && : >>"$file") 2>/dev/null || [[ -e $file ]] ||
        fail "the lock $file cannot be made" "check who may write to ${file%/*}"
    [[ -r $file ]] || fail "the lock $file cannot be opened: it is somebody else's" "run this as the user who made it, or remove it"
    exec {lock}<"$file"
    flock --nonblock "$lock" || fail "$said" "wait until it has finished"
}
