# shellcheck shell=bash
# Shell helpers shared by the scripts in ci/.  Source it:  . "$(dirname "$0")/parts/common.sh"
#
# What set-up leaves in the cache, and how the other scripts use it:
#
#   $(gatehouse_cache)                   ${GATEHOUSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gatehouse}
#   $(ci/setup --print-emulator)         the emulator: .../emulator-KEY/bin/qemu-system-x86_64
#   $(ci/setup --print-cddl)             cddl: .../cddl-KEY/usr/bin/cddl
#   $(ci/parts/private_root path)        the private root: .../private-root-KEY, a Debian trixie with mkosi and meson
#
# Tools that this machine's own suite does not have (mkosi 25, systemd-repart 257, meson 1.7) run in the private root:
#
#   ci/parts/private_root run [--bind SRC[:DST]]... [--chdir DIR] [--env NAME=VALUE]... -- CMD ARG...
#
# CMD runs as root of the private root (a mount namespace of its own, entered with pivot_root, so that user namespaces
# and mounts work inside); /proc, /sys, /dev and the network are the machine's, /tmp is empty and vanishes, everything
# else that is to be seen or kept is bound by --bind (DST is created; without it, DST = SRC).  The exit status is CMD's.
# apt inside uses the machine's own mirror; `ci/parts/private_root mirror [--security]` prints its address at run time.

gatehouse_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

say()  { printf '%s\n' "$*" >&2; }
step() { printf '== %s %s\n' "$(date +%T)" "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
# die MESSAGE...: one line that names the item and what to do; exit status 3 (a failure, not a verdict).
die()  { printf 'error: %s\n' "$*" >&2; exit 3; }
usage_error() { printf 'error: %s\n' "$*" >&2; exit 2; }

gatehouse_cache() {
    [ -n "${GATEHOUSE_CACHE:-}${XDG_CACHE_HOME:-}${HOME:-}" ] || die "no cache directory: set GATEHOUSE_CACHE or HOME"
    printf '%s\n' "${GATEHOUSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gatehouse}"
}

# key_of FILE|=TEXT...: 16 hex digits over the contents of the files (and the literal texts), in the order given.
key_of() {
    local item
    for item in "$@"; do
        case "$item" in
            =*) printf 'text %s\n' "${item#=}" ;;
            *) [ -r "$item" ] || die "$item: not readable, but part of a cache key"
               printf 'file '; sha256sum < "$item" ;;
        esac
    done | sha256sum | cut -c1-16
}

# words_of FILE: the words of a list file, comments (#) and blank lines dropped.
words_of() { sed -e 's/#.*//' "$1" | xargs -n1; }

# with_lock NAME CMD...: run CMD while holding the cache's lock NAME; a second set-up waits for the first.  Not to be
# called in a condition: that would switch off errexit in CMD.
with_lock() {
    local name="$1" cache; shift
    cache="$(gatehouse_cache)"
    mkdir -p "$cache" || die "$cache: cannot create the cache directory; set GATEHOUSE_CACHE"
    (
        flock --nonblock 9 || { say "waiting for another set-up ($name) to finish"; flock 9; }
        "$@"
    ) 9> "$cache/$name.lock"
}

# configure_build DIR OPTION...: CMake's configuration of a build in DIR. What was compiled once is taken from the compiler
# cache, whatever checkout it was compiled in; debug information has lines, no more: that halves the time.
configure_build() {
    local directory="$1"; shift
    local cache; cache="$(gatehouse_cache)/ccache"
    export CCACHE_DIR="$cache" CCACHE_BASEDIR="$gatehouse_root" CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=3G
    mkdir -p "$directory" "$cache"
    run_logged "$directory/configure.log" cmake -S "$gatehouse_root" -B "$directory" -G Ninja \
        -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O2 -g1 -DNDEBUG" \
        "-DGATEHOUSE_NODE_MODULES=$(bash "$gatehouse_root/ci/setup" --print-node-modules)" \
        "-DGATEHOUSE_CDDL=$(bash "$gatehouse_root/ci/setup" --print-cddl)" "$@"
}

# run_logged LOG CMD...: run CMD with its output in LOG; when it fails show the end of LOG and its path.
run_logged() {
    local log="$1"; shift
    mkdir -p "$(dirname "$log")"
    if ! "$@" >> "$log" 2>&1 < /dev/null; then
        tail -n 25 "$log" >&2
        die "failed: $* (whole log: $log)"
    fi
}
