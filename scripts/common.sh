# Sourced by the scripts beside it, which then are in the repository's root.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What is too costly to make for each clone. Everything else goes under target/.
cache=${TOOLGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/toolgate}

say() { echo "${0##*/}: $*" >&2; }
die() { say "$@"; exit 1; }

# lock FILE: one run at a time, until this script ends. (macOS has no flock: there two at once are two at once.)
lock() {
    mkdir -p "$(dirname "$1")"
    exec 9>"$1"
    if command -v flock >/dev/null; then flock 9; fi
}

require_node() {
    local version
    version=$(node --version 2>/dev/null) || die "Node is missing: install Node 18 or newer (https://nodejs.org)"
    version=${version#v}
    [ "${version%%.*}" -ge 18 ] || die "Node $version is too old: install Node 18 or newer (https://nodejs.org)"
}
