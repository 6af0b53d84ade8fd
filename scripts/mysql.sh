#!/usr/bin/env bash
# Puts a MySQL server into <build folder>/mysql, for the tests: `mysqld` there
# starts it. Debian's stable releases have none, so it and all its libraries are
# unpacked from a newer suite of this machine's Debian mirror, beside the system
# and not into it. Does nothing where it is there already; where it cannot be
# had it says so and fails, and the tests skip MySQL.
. "$(dirname "$0")/common.sh"

target="$BUILD/mysql"
suite="${SKIFF_MYSQL_SUITE:-sid}"
if [ -x "$target/mysqld" ]; then
    exit 0
fi

mkdir -p "$BUILD"
work="$(mktemp -d "$BUILD/mysql-new.XXXXXX")"
trap 'rm -rf "$work"' EXIT
. "$ROOT/tests/debian.sh"

# The server and all that it needs, down to the C library.
packages() {
    private_apt "$(source_line "$suite")" -s install --no-install-recommends mysql-server-core libxxhash0 2>"$work/log" |
        awk '$1 == "Inst" { print $2 }'
}

read_suite "$suite" || die "no suite $suite of this machine's Debian mirror: MySQL is not tested here"
mapfile -t needed < <(packages)
[ ${#needed[@]} -gt 0 ] || die "suite $suite has no mysql-server-core: $(tail -n 3 "$work/log")"
say "unpacking ${#needed[@]} packages for MySQL"
unpack_packages "$suite" "${needed[@]}" || die "the packages of MySQL cannot be had: it is not tested here"

# The newer C library comes with its own loader, which also finds the others.
cat >"$work/unpacked/mysqld" <<'EOF'
#!/bin/sh
# Starts the unpacked server with the libraries beside it.
here="$(cd "$(dirname "$0")" && pwd)"
libraries="$here/usr/lib/x86_64-linux-gnu:$here/lib/x86_64-linux-gnu:$here/usr/lib/aarch64-linux-gnu"
for loader in "$here"/usr/lib64/ld-linux-*.so.* "$here"/lib64/ld-linux-*.so.* "$here"/usr/lib/ld-linux-*.so.* \
    "$here"/usr/lib/*/ld-linux-*.so.*; do
    [ -x "$loader" ] && exec "$loader" --library-path "$libraries" "$here/usr/sbin/mysqld" "$@" \
        --basedir="$here/usr" --lc-messages-dir="$here/usr/share/mysql" \
        --character-sets-dir="$here/usr/share/mysql/charsets" --plugin-dir="$here/usr/lib/mysql/plugin"
done
echo "no loader below $here" >&2
exit 1
EOF
chmod +x "$work/unpacked/mysqld"
version="$("$work/unpacked/mysqld" --no-defaults --version)" || die "the unpacked MySQL does not run here"
rm -rf "$target"
mv "$work/unpacked" "$target"
say "$version"
