#!/usr/bin/env bash
# Two PostgreSQL servers under Patroni, which keeps its leader in etcd through the JSON gateway: the leader is
# killed, the other takes over with all data, and the first comes back as its follower. Run by tests/patroni.rs:
#     scenario.sh <folder of the venv> <host:port of etcd> <empty folder>
# PostgreSQL refuses to run as root: then the user `postgres` of Debian's package runs it.
set -euo pipefail
venv="$1" endpoint="$2" dir="$3"

say() { printf 'patroni: %s\n' "$*" >&2; }
die() {
    say "$*"
    tail -n 40 "$dir"/*.log >&2 || true
    exit 1
}

bin_dir="$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)"
[ -n "$bin_dir" ] || bin_dir="$(dirname "$(command -v initdb)")"
[ -x "$bin_dir/initdb" ] || die "PostgreSQL's initdb is not installed"

as_user=()
if [ "$(id -u)" -eq 0 ]; then
    # A folder that only root may enter is none for another user.
    dir="$(mktemp -d /tmp/skiff-patroni-XXXXXX)"
    install -d -o postgres -g postgres -m 700 "$dir"
    as_user=(setpriv --reuid=postgres --regid=postgres --init-groups)
    cp -r "$venv" "$dir/venv"
    venv="$dir/venv"
    chown -R postgres:postgres "$venv"
fi

pids=()
finish() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    # Patroni stops its PostgreSQL; what is left then is ended by its own pid file.
    for pid in "${pids[@]}"; do
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
    for number in 1 2; do
        pid="$(head -n 1 "$dir/data$number/postmaster.pid" 2>/dev/null || true)"
        [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    done
    [ "${#as_user[@]}" -eq 0 ] || rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM

free_port() { "$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
declare -A sql rest
configure() { # configure <number>
    sql[$1]="$(free_port)" rest[$1]="$(free_port)"
    cat >"$dir/patroni$1.yml" <<YAML
scope: skiff
name: pg$1
restapi: { listen: "127.0.0.1:${rest[$1]}", connect_address: "127.0.0.1:${rest[$1]}" }
etcd3: { host: "$endpoint" }
bootstrap:
  dcs: { ttl: 20, loop_wait: 1, retry_timeout: 5, maximum_lag_on_failover: 1048576 }
  initdb: [ { encoding: UTF8 }, data-checksums ]
postgresql:
  listen: "127.0.0.1:${sql[$1]}"
  connect_address: "127.0.0.1:${sql[$1]}"
  data_dir: "$dir/data$1"
  bin_dir: "$bin_dir"
  pgpass: "$dir/pgpass$1"
  authentication:
    superuser: { username: postgres, password: of-this-test-only }
    replication: { username: replicator, password: of-this-test-only }
  parameters: { unix_socket_directories: "$dir", fsync: "on" }
YAML
    chown --reference="$dir" "$dir/patroni$1.yml"
}
start() { # start <number>
    "${as_user[@]}" env PATH="$bin_dir:$PATH" "$venv/bin/python" -m patroni "$dir/patroni$1.yml" >>"$dir/patroni$1.log" 2>&1 &
    pids[$1]=$!
}

# Waits until a command succeeds; the first word is what it waits for.
until_true() {
    local what="$1" deadline=$((SECONDS + 120))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || die "$what: not within two minutes"
        sleep 0.3
    done
}
http() { # http <number> <path>: whether Patroni's own check answers 200
    "$venv/bin/python" - "${rest[$1]}" "$2" <<'PYTHON'
import sys, urllib.request
try:
    sys.exit(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}{sys.argv[2]}", timeout=5).status != 200)
except OSError:
    sys.exit(1)
PYTHON
}
query() { # query <number> <statement>
    PGPASSWORD=of-this-test-only "$bin_dir/psql" -h 127.0.0.1 -p "${sql[$1]}" -U postgres -Atqc "$2" postgres 2>>"$dir/psql.log"
}
answers() { [ "$(query "$1" "$2" || true)" = "$3" ]; }

configure 1
configure 2
start 1
until_true "pg1 leads" http 1 /leader
start 2
until_true "pg2 follows" http 2 /replica
query 1 "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)"
until_true "pg2 has the rows" answers 2 "SELECT count(*) FROM t" 1000
say "pg1 leads, pg2 follows; pg1 is killed now"

postmaster="$(head -n 1 "$dir/data1/postmaster.pid")"
kill -9 "${pids[1]}" "$postmaster"
until_true "pg2 leads" http 2 /leader
until_true "pg2 takes writes" query 2 "INSERT INTO t VALUES (1001)"
say "pg2 leads; pg1 comes back"

start 1
until_true "pg1 follows" http 1 /replica
until_true "pg1 has all rows" answers 1 "SELECT count(*) FROM t" 1001
if http 1 /leader; then die "both lead"; fi

# An orderly hand-over, asked for through etcd.
"${as_user[@]}" "$venv/bin/python" "$venv/bin/patronictl" -c "$dir/patroni2.yml" switchover skiff --primary pg2 --candidate pg1 --force >&2
until_true "pg1 leads again" http 1 /leader
until_true "pg2 follows again" http 2 /replica
answers 1 "SELECT count(*) FROM t" 1001 || die "rows are lost"
say "done"
