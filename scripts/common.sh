# Shared by the scripts here: where things are built, and how to say things.
# Sourced, never run.

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# One folder outside of the checkout holds everything built, so that a new
# clone, a branch switch or `git clean` does not compile RocksDB again.
BUILD="${SKIFF_BUILD_DIR:-$HOME/.cache/skiff}"

say() { printf '==> %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# rustup installs there; a shell that has not been restarted does not know it.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

# The version of librocksdb-sys in Cargo.lock, e.g. "0.19.0+11.8.1".
rocksdb_version() {
    awk '$0 == "name = \"librocksdb-sys\"" { found = 1; next }
         found && $1 == "version" { gsub(/"/, "", $3); print $3; exit }' "$ROOT/Cargo.lock"
}

# What every cargo call after the RocksDB step needs.
export_cargo_env() {
    export CARGO_TARGET_DIR="$BUILD/target"
    export ROCKSDB_LIB_DIR="$BUILD/rocksdb/lib"
    export ROCKSDB_STATIC=1
}
