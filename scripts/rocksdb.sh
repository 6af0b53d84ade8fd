#!/usr/bin/env bash
# Compiles RocksDB once, outside of cargo's profiles, into a static library
# that every profile links: <build folder>/rocksdb/lib/librocksdb.a.
#
# A stamp beside it says what it was compiled from; another version of the
# crate compiles anew. A library without a stamp is adopted when it is of the
# right version and has lz4 (someone copied it there to save the time).
. "$(dirname "$0")/common.sh"

DIR="$BUILD/rocksdb"
LIB="$DIR/lib/librocksdb.a"
STAMP="$DIR/stamp"
OPT_LEVEL=2 # of [profile.release.package.librocksdb-sys] in Cargo.toml
WANT="librocksdb-sys $(rocksdb_version) features=lz4 opt-level=$OPT_LEVEL machine=$(uname -m)"

up_to_date() { [ -s "$LIB" ] && [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$WANT" ]; }
adoptable() {
    [ -s "$LIB" ] && [ ! -f "$STAMP" ] &&
        grep -aqF "rocksdb_build_git_tag:v$(rocksdb_version | sed 's/.*+//')" "$LIB" &&
        grep -aqF LZ4_compress_fast "$LIB"
}

up_to_date && exit 0
mkdir -p "$DIR/lib"
exec 9>"$DIR/lock"
if ! flock -n 9; then
    say "another build is compiling RocksDB in $DIR; waiting for it"
    flock 9
fi
up_to_date && exit 0
if adoptable; then
    printf '%s\n' "$WANT" >"$STAMP"
    say "using the RocksDB library found in $DIR/lib"
    exit 0
fi

cd "$ROOT"
work="$DIR/build"
log="$DIR/build.log"
rm -rf "$work"
cores="$(nproc)"
say "compiling RocksDB ($(rocksdb_version)), once: later builds reuse $LIB"
say "this takes about $((27 / cores + 1)) minutes on this machine's $cores cores (27 CPU-minutes); log: $log"

# Without the variables, or the crate would look for a library to link.
env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC CARGO_TARGET_DIR="$work" \
    cargo build --release --locked -p librocksdb-sys >"$log" 2>&1 9>&- &
pid=$!
trap 'kill "$pid" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

total=""
began=$SECONDS
while kill -0 "$pid" 2>/dev/null; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do # 20 s, but notice the end within 2 s
        sleep 2
        kill -0 "$pid" 2>/dev/null || break
    done
    if [ -z "$total" ]; then
        total="$(cat "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/librocksdb-sys-"$(rocksdb_version)"/rocksdb_lib_sources.txt \
            2>/dev/null | grep -c . || true)"
    fi
    out="$(find "$work" -path '*/librocksdb-sys-*/out' -type d 2>/dev/null | head -n 1 || true)"
    done_files=0
    if [ -n "$out" ]; then done_files="$(find "$out" -name '*.o' 2>/dev/null | wc -l)"; fi
    spent=$((SECONDS - began))
    if [ "$done_files" -gt 10 ] && [ "${total:-0}" -gt 0 ]; then
        left=$(((total > done_files ? total - done_files : 0) * spent / done_files))
        say "$(printf 'RocksDB: %d of %d files after %d:%02d, about %d:%02d left' "$done_files" "$total" \
            $((spent / 60)) $((spent % 60)) $((left / 60)) $((left % 60)))"
    else
        say "$(printf 'RocksDB: preparing, %d:%02d so far' $((spent / 60)) $((spent % 60)))"
    fi
done
if ! wait "$pid"; then
    tail -n 40 "$log" >&2
    die "compiling RocksDB failed; the whole log is in $log"
fi
trap - EXIT

built="$(find "$work" -path '*/librocksdb-sys-*/out/librocksdb.a' | head -n 1)"
[ -n "$built" ] || die "cargo built no librocksdb.a; see $log"
cp "$built" "$LIB.new"
mv "$LIB.new" "$LIB"
printf '%s\n' "$WANT" >"$STAMP"
rm -rf "$work"
say "RocksDB is ready: $LIB"
