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

# The Compose files with which the containers of this project were made, each once: they know. Files that this checkout has
# as well are given with its path, since it may have been moved, or used through a symlink.
files_of_containers() {
    local containers directory files file seen=$'\n' enlarged=false format
    format='{{ .Label "com.docker.compose.service" }}|{{ .Label "com.docker.compose.project.working_dir" }}'
    format+='|{{ .Label "com.docker.compose.project.config_files" }}'
    containers=$(stack_containers --all --format "$format") || return
    if grep -qE '^(redis-4|sentinel-[45])[|]' <<<"$containers"; then enlarged=true; fi
    while IFS='|' read -r _ directory files; do
        while IFS= read -r -d , file; do
            if [[ $file == "$directory"/* && -f $ROOT/${file#"$directory"/} ]]; then file=$ROOT/${file#"$directory"/}; fi
            [[ $seen != *$'\n'"$file"$'\n'* ]] || continue
            # A container that ./scripts/scale leaves as it is remembers them when they are gone.
            [[ $enlarged == true || +$(basename "$file" .yaml)+ != *+five+* ]] || continue
            seen+=$file$'\n'
            printf '%s\n' "$file"
        done <<<"${files:+$files,}"
    done <<<"$containers"
}

uses_file() { # uses_file <path>
    local file
    for file in "${COMPOSE_FILES[@]}"; do [[ $file != "$1" ]] || return 0; done
    return 1
}

# The overlays of the containers. Not the user's own node: that overlay needs settings which only ./scripts/up was given,
# and nothing here depends on it.
use_running_overlays() {
    local file
    while read -r file; do
        [[ $file == "$ROOT"/compose/*.yaml && $file != */own-strategy.yaml && -f $file ]] || continue
        uses_file "$file" || COMPOSE_FILES+=(-f "$file")
    done < <(files_of_containers 2>/dev/null)
}

# ./scripts/up was given paths to the user's own node; the trader's container knows them.
mounted_in_trader() { # mounted_in_trader <path in the container>
    docker inspect --format "{{ range .Mounts }}{{ if eq .Destination \"$1\" }}{{ .Source }}{{ end }}{{ end }}" \
        "$(project_name)-trader-1" 2>/dev/null || true
}

compose() { docker compose --project-directory "$ROOT" "${COMPOSE_FILES[@]}" "$@"; }

# Lists the containers of this project's services. Compose labels images too, so whatever runs beside the stack from one
# of them looks like a part of it, but for the last label.
stack_containers() { # stack_containers <option of docker ps>...
    docker ps --filter "label=com.docker.compose.project=$(project_name)" \
        --filter label=com.docker.compose.oneoff=False "$@"
}

stack_is_running() { [[ -n $(stack_containers --quiet) ]]; }

services_that_run() { # services_that_run <pattern>
    stack_containers --format '{{ .Label "com.docker.compose.service" }}' | grep -E "$1" | LC_ALL=C sort
}

nodes_that_run() { services_that_run '^redis-[0-9]+$'; }
traders_that_run() { services_that_run '^trader'; }

# The trader whose container is asked.
SERVICE=trader

# Takes `--service NAME` out of a command's arguments, for SERVICE; REST is what is left.
take_service() {
    REST=()
    while (($#)); do
        case $1 in
            --service)
                (($# > 1)) || fail "--service needs the name of a trader's service" "for example: --service trader-2"
                SERVICE=$2
                shift
                ;;
            --service=*) SERVICE=${1#*=} ;;
            --help)
                note "--service NAME   the trader whose container is asked, for example trader-2; default: trader"
                REST+=("$1")
                ;;
            *) REST+=("$1") ;;
        esac
        shift
    done
    [[ $SERVICE == trader ]] || traders_that_run | grep -qxF -- "$SERVICE" ||
        fail "no trader \"$SERVICE\" runs in the stack \"$(project_name)\"" \
            "those that run: $(traders_that_run | paste -sd ' ' -)"
}

# Runs a command in the trader's image: in the running container of SERVICE, by default the first trader's, where there
# is one (fast), else in a new one.
in_trader() {
    local tty=()
    [[ -t 0 && -t 1 ]] || tty=(-T)
    if [[ -n $(compose ps --quiet --status running "$SERVICE" 2>/dev/null) ]]; then
        compose exec "${tty[@]}" "$SERVICE" "$@"
    elif [[ -n $(docker network ls --quiet --filter "name=^$(project_name)_stack\$") ]]; then
        compose run --rm --no-deps "${tty[@]}" tools "$@"
    else
        fail "the stack \"$(project_name)\" is not running" "start it with ./scripts/up"
    fi
}
