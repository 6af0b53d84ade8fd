#!/bin/sh
# Puts Prometheus' promtool into <build folder>/promtool, for the test of the alert rules. Does nothing
# when it is already there. The package is unpacked, not installed: nothing is started, no user is made.
#
# The build folder is $SKIFF_BUILD_DIR, by default $HOME/.cache/skiff.
set -eu

dir=${SKIFF_BUILD_DIR:-$HOME/.cache/skiff}/promtool
say() { echo "promtool: $*" >&2; }
. "$(dirname "$0")/debian.sh"

mkdir -p "$dir"
[ -x "$dir/promtool" ] && exit 0
if command -v flock > /dev/null; then
    exec 9> "$dir/lock"
    flock -w 900 9 || { say "another run has held $dir/lock for 15 minutes"; exit 1; }
    [ -x "$dir/promtool" ] && exit 0
fi
if command -v promtool > /dev/null; then
    ln -sf "$(command -v promtool)" "$dir/promtool"
    exit 0
fi
work=$dir/work
rm -rf "$work"
mkdir -p "$work"
if unpack_packages "$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")" prometheus; then
    "$work/unpacked/usr/bin/promtool" --version > "$work/version" 2>&1 \
        || { say "the downloaded promtool does not run here"; exit 1; }
    mv "$work/unpacked/usr/bin/promtool" "$dir/promtool"
    say "$(head -n 1 "$work/version") in $dir"
    rm -rf "$work"
    exit 0
fi
say "promtool could not be downloaded. Put it (2.40 or newer) into $dir by hand;"
say "the log of the attempt is $work/log"
exit 1
