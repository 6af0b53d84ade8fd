#!/usr/bin/env bash
# Figures of `skiff kine` on one database: benches/sql.sh ENDPOINT
# Starts two servers on it (one on SQLite) and prints a line for each load. The
# database is to be empty. Build first:
#   cargo build --release -p skiff -p skiff-benches
set -euo pipefail
endpoint="${1:?usage: benches/sql.sh ENDPOINT}"
bin="${CARGO_TARGET_DIR:-target}/release"
scratch="$(mktemp -d)"
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$scratch"' EXIT

serve() { # serve PORT
    "$bin/skiff" kine --endpoint "$endpoint" --listen-address "127.0.0.1:$1" --metrics-bind-address 0 \
        2>"$scratch/log-$1" &
    until grep -q "ready to serve" "$scratch/log-$1"; do
        kill -0 $! 2>/dev/null || { cat "$scratch/log-$1"; exit 1; }
        sleep 0.05
    done
}
size() {
    ETCDCTL_API=3 etcdctl --endpoints "$a" endpoint status -w json | sed -E 's/.*"dbSize":([0-9]+).*/bytes=\1/'
}

a=http://127.0.0.1:23791 b=http://127.0.0.1:23792
serve 23791
case "$endpoint" in
    sqlite*) b=$a ;;
    *) serve 23792 ;;
esac
for clients in 1 50 200; do
    total=$((clients == 1 ? 2000 : 10000))
    "$bin/load" create "$a" clients=$clients total=$total value=512 prefix="create-$clients/"
    "$bin/load" update "$a" clients=$clients total=$total value=512 prefix="update-$clients/"
done
"$bin/load" create "$a" clients=50 total=10000 value=512 prefix=bench/
"$bin/load" range "$a" clients=1 total=20
"$bin/load" watch "$a" from="$b" total=500 gap=2
"$bin/load" watch "$a" from="$b" total=50 gap=200 prefix=idle/
echo "before the churn $(size)"
for _ in 1 2 3 4; do
    "$bin/load" update "$a" clients=50 total=25000 value=512 keys=40 prefix=churn/ >"$scratch/churn"
    "$bin/load" compact "$a"
done
cat "$scratch/churn"
echo "after 100,000 updates and four compactions $(size)"
