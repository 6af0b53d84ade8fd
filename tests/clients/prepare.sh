#!/usr/bin/env bash
# Prepares the client named by $1 (python, node, go, rust, patroni) in <build folder>/clients, once for each
# of its pinned versions, and prints the words of the command that runs it, one a line. Exit code 3: a tool
# that this machine may lack is not there; the reason is on stderr.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
build="${SKIFF_BUILD_DIR:-$HOME/.cache/skiff}/clients"
what="$1"
mkdir -p "$build"

say() { printf 'clients: %s\n' "$*" >&2; }
lacks() {
    say "$*"
    exit 3
}

# One at a time: tests may ask at once.
exec 9>"$build/$what.lock"
flock -w 900 9

# A folder that is complete once it bears its final name: run <folder> <command...> fills it.
once() {
    local folder="$1"
    shift
    [ -d "$folder" ] && return
    say "preparing $folder"
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    "$@" "$folder.new" >&2
    mv "$folder.new" "$folder"
}

# The system's own Python where there is one: other users may run it too.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
venv() { # venv <package...> <folder>: the last word is the folder
    local folder="${*: -1}"
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install -q --disable-pip-version-check "${@:1:$#-1}"
}

npm_packages() {
    cp "$here/node/package.json" "$here/node/package-lock.json" "$1/"
    npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund
}

case "$what" in
python)
    folder="$build/python-aetcd-1.0.0"
    once "$folder" venv aetcd==1.0.0 grpcio==1.85.3 protobuf==7.36.2
    printf '%s\n' "$folder/bin/python" "$here/python/scenario.py"
    ;;
node)
    folder="$build/node-etcd3-1.1.2"
    once "$folder" npm_packages
    printf '%s\n' node "$here/node/scenario.mjs" "$folder"
    ;;
go)
    command -v go >/dev/null || lacks "go is not installed"
    (cd "$here/go" && go build -o "$build/go-client" .) >&2 || {
        # An older go cannot fetch the newer one that the client's module asks for.
        version="$(go env GOVERSION)"
        case "$version" in go1.?|go1.?.*|go1.1?*|go1.20*) lacks "$version is too old for etcd's client" ;; esac
        exit 1
    }
    printf '%s\n' "$build/go-client"
    ;;
rust)
    (cd "$here/rust" && cargo build --locked --target-dir "$build/rust") >&2
    printf '%s\n' "$build/rust/debug/skiff-client-test"
    ;;
patroni)
    folder="$build/python-patroni-4.1.5"
    once "$folder" venv 'patroni[etcd3]==4.1.5' 'psycopg[binary]==3.3.9'
    printf '%s\n' bash "$here/patroni/scenario.sh" "$folder"
    ;;
*)
    say "unknown client: $what"
    exit 1
    ;;
esac
