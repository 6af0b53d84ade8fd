#!/usr/bin/env bash
# Starts a single member of the release build. Arguments go to `skiff etcd`.
. "$(dirname "$0")/common.sh"

data="${SKIFF_DATA_DIR:-$BUILD/run/default.etcd}"
mkdir -p "$(dirname "$data")"
cat >&2 <<TEXT
==> skiff etcd: data in $data (another place: make run SKIFF_DATA_DIR=...)
==> when the log says "ready to serve client requests", try in another shell:

    export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=http://127.0.0.1:2379
    etcdctl put greeting hello
    etcdctl get greeting
    etcdctl watch greeting            # shows the next put; Ctrl-C ends it
    etcdctl endpoint status -w table
    curl http://127.0.0.1:2379/health

==> Ctrl-C stops the member; the data stays.
TEXT
exec "$BUILD/target/release/skiff" etcd --data-dir "$data" "$@"
