# shellcheck shell=bash
# Docker Compose with this repository's files. Needs settings.sh.

COMPOSE_FILES=(-f "$ROOT/compose/base.yaml")

use_overlay() {
    COMPOSE_FILES+=(-f "$ROOT/compose/$1.yaml")
    use_pairs_of "$1"
}

# compose/A+B.yaml holds what is needed where A and B are both in use.
use_pairs_of() {
    local file other
    for file in "$ROOT"/compose/*+*.yaml; do
        other=$(basename "$file" .yaml)
        case $other in
            "$1"+*) other=${other#*+} ;;
            *+"$1") other=${other%+*} ;;
            *) continue ;;
        esac
        if [[ " ${COMPOSE_FILES[*]} " == *" $ROOT/compose/$other.yaml "* ]]; then COMPOSE_FILES+=(-f "$file"); fi
    done
}

# The overlays with which the containers of this project were made: they know. Not the user's own node: that overlay needs
# settings which only ./scripts/up was given, and nothing here depends on it.
use_running_overlays() {
    local file
    while read -r file; do
        [[ $file == "$ROOT"/compose/*.yaml && " ${COMPOSE_FILES[*]} " != *" $file "* ]] || continue
        [[ $file != */own-strategy.yaml ]] || continue
        # The trader's container is not made anew when those that it adds are gone (./scripts/scale).
        [[ $file != */*five*.yaml ]] || docker container inspect "$(project_name)-redis-4-1" >/dev/null 2>&1 || continue
        COMPOSE_FILES+=(-f "$file")
    done < <(docker ps --all --filter "label=com.docker.compose.project=$(project_name)" \
        --format '{{ .Label "com.docker.compose.project.config_files" }}' 2>/dev/null | tr ',' '\n')
}

compose() { docker compose --project-directory "$ROOT" "${COMPOSE_FILES[@]}" "$@"; }

# Is any container of this project running? Compose labels images too, so whatever runs beside the stack from one of them
# looks like a part of it, but for the last label.
stack_is_running() {
    [[ -n $(docker ps --quiet --filter "label=com.docker.compose.project=$(project_name)" \
        --filter "label=com.docker.compose.oneoff=False") ]]
}

# Runs a command in the trader's image: in the running container where there is one (fast), else in a new one.
in_trader() {
    local tty=()
    [[ -t 0 && -t 1 ]] || tty=(-T)
    if [[ -n $(compose ps --quiet --status running trader 2>/dev/null) ]]; then
        compose exec "${tty[@]}" trader "$@"
    elif [[ -n $(docker network ls --quiet --filter "name=^$(project_name)_stack\$") ]]; then
        compose run --rm --no-deps "${tty[@]}" tools "$@"
    else
        fail "the stack \"$(project_name)\" is not running" "start it with ./scripts/up"
    fi
}
