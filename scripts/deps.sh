#!/usr/bin/env bash
# Makes sure that what the build (`deps.sh build`) or the tests (`deps.sh test`)
# need is installed. Installs Debian packages where it may (root, or sudo
# without a password); otherwise prints the command and stops.
. "$(dirname "$0")/common.sh"

missing=()
need() { # need <package> <probe...>: the package is missing where the probe fails
    local package="$1"
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
have_libclang() {
    # bindgen opens it at run time; LIBCLANG_PATH may name an own folder.
    # libclang-cpp, which many a machine has alone, is another library.
    local dir
    for dir in "${LIBCLANG_PATH:-/nonexistent}" /usr/lib/llvm-*/lib; do
        compgen -G "$dir/libclang.so*" && return
        compgen -G "$dir/libclang-[0-9]*.so*" && return
    done
    ldconfig -p | grep -qE '[[:space:]]libclang(-[0-9]+)?\.so'
}
have_clang_headers() {
    compgen -G "/usr/lib/llvm-*/lib/clang/*/include/stddef.h" || compgen -G "/usr/lib/clang/*/include/stddef.h" ||
        compgen -G "/usr/lib64/clang/*/include/stddef.h" || compgen -G "/usr/lib/gcc/*/*/include/stddef.h"
}

need g++ command -v g++
need make command -v make
need libclang-dev have_libclang
need libclang-dev have_clang_headers
if [ "${1:-build}" = test ]; then
    need etcd-client command -v etcdctl
    need python3 command -v python3
    need python3-pip python3 -m pip --version
    # Programs on real clients; Debian's own Go is too old for etcd's.
    need python3-venv python3 -c 'import ensurepip'
    need nodejs command -v node
    need npm command -v npm
    need protobuf-compiler command -v protoc
    need libprotobuf-dev test -f /usr/include/google/protobuf/descriptor.proto
    need postgresql compgen -G '/usr/lib/postgresql/*/bin/initdb'
    need mariadb-server command -v mariadbd
    need galera-4 compgen -G '/usr/lib/*galera*'
    need rsync command -v rsync
    need pgbouncer command -v pgbouncer
fi

if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    say "missing system packages: ${missing[*]}"
    if ! command -v apt-get >/dev/null 2>&1; then
        die "install them with your package manager (the names are Debian's), then run this again"
    fi
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        else
            die "not root, and sudo asks for a password. Please run:
    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
        fi
    fi
    say "installing them with apt-get"
    "${as_root[@]}" apt-get update -q
    # The tests start databases of their own: a package's service stays down.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

minimum="$(awk -F'"' '/^rust-version/ { print $2; exit }' "$ROOT/Cargo.toml")"
how="Rust $minimum or newer comes with rustup (Debian 12's own is too old):
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
    . \"\$HOME/.cargo/env\"
then run this again."
command -v cargo >/dev/null 2>&1 || die "cargo is not installed. $how"
found="$(rustc --version | awk '{ print $2 }')"
if [ "$(printf '%s\n%s\n' "$minimum" "${found%%-*}" | sort -V | head -n 1)" != "$minimum" ]; then
    die "rustc $found is too old. $how"
fi
