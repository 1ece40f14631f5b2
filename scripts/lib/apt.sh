# shellcheck shell=bash
# Debian and Ubuntu: packages, and mirrors as this host has configured them (never an address written here).

is_root() { [[ $(id -u) == 0 ]]; }

# os_release <field>
os_release() { (. /etc/os-release 2>/dev/null && eval "printf '%s\n' \"\${$1:-}\""); }

has_apt() { command -v apt-get >/dev/null && [[ -r /etc/os-release ]]; }

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends "$@" </dev/null >/dev/null
}

# The first mirror among the host's apt sources that serves the given suite; fails when there is none. Reads both formats.
mirror_of() { # mirror_of <suite>
    local files=(/etc/apt/sources.list /etc/apt/sources.list.d/*.list)
    cat "${files[@]}" 2>/dev/null | awk -v suite="$1" '
        $1 == "deb" {
            sub(/\[[^]]*\]/, "")
            if ($3 == suite && !found) { print $2; found = 1 }
        }
        END { exit !found }' && return
    # One stanza per record, as in deb822.
    for file in /etc/apt/sources.list.d/*.sources; do
        [[ -f $file ]] || continue
        grep -v '^#' "$file" | awk -v suite="$1" 'BEGIN { RS = ""; FS = "\n" }
            {
                uri = ""; match_suite = 0
                for (i = 1; i <= NF; i++) {
                    n = split($i, word, " ")
                    if (word[1] == "URIs:") uri = word[2]
                    if (word[1] == "Suites:") for (j = 2; j <= n; j++) if (word[j] == suite) match_suite = 1
                }
                if (uri != "" && match_suite && !found) { print uri; found = 1 }
            }
            END { exit !found }' && return
    done
    return 1
}

# The same, but only Debian's; empty when there is none.
debian_mirror_of() {
    if [[ $(os_release ID) == debian ]]; then mirror_of "$1" || true; fi
}

DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# Downloads one package of another Debian suite into the current directory, with an apt configuration of its own so that
# the host's is not touched.
download_from_suite() { # download_from_suite <suite> <package> <mirror>
    local suite=$1 package=$2 mirror=$3 private
    private=$(mktemp -d)
    mkdir -p "$private"/{lists/partial,cache/archives/partial,parts}
    echo "deb [signed-by=$DEBIAN_KEYRING] $mirror $suite main" >"$private/sources.list"
    local options=(
        -o "Dir::Etc::sourcelist=$private/sources.list" -o "Dir::Etc::sourceparts=$private/parts"
        -o "Dir::State::lists=$private/lists" -o "Dir::Cache=$private/cache"
        # Downloads go to a directory that the unprivileged user of apt may not read.
        -o APT::Sandbox::User=root
    )
    apt-get "${options[@]}" --quiet update && apt-get "${options[@]}" --quiet download "$package"
    local status=$?
    rm -rf "$private"
    return "$status"
}
