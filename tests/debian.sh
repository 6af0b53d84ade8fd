# Getting programs out of Debian packages without installing them. Sourced by
# the scripts here; needs `work`, a folder, and `say`.

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

# The line for the sources of suite $1 of this machine's Debian mirror.
source_line() {
    mirror=$(debian_mirror) || { say "no Debian archive found in this machine's apt sources"; return 1; }
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    options=
    [ -f "$keyring" ] && options="[signed-by=$keyring] "
    echo "deb ${options}$mirror $1 main"
}

# Reads the lists of suite $1.
read_suite() {
    command -v apt-get > /dev/null && command -v dpkg > /dev/null || return 1
    source=$(source_line "$1") || return 1
    say "reading suite $1 of this machine's Debian mirror"
    private_apt "$source" update > "$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; return 1; }
}

# Downloads packages ($2 ...) of suite $1 of this machine's Debian mirror and unpacks them into $work/unpacked.
unpack_packages() {
    suite=$1
    shift
    read_suite "$suite" || return 1
    rm -rf "$work/deb" "$work/unpacked"
    mkdir -p "$work/deb" "$work/unpacked"
    (cd "$work/deb" && private_apt "$source" download "$@") > "$work/log" 2>&1 \
        || { tail -n 5 "$work/log" >&2; return 1; }
    for package in "$work"/deb/*.deb; do
        dpkg -x "$package" "$work/unpacked"
    done
}
