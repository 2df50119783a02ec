#!/bin/sh
# What the browser tests need beyond Python: Chromium and a font. Installs them where that is possible
# without a password; says what is left out where it is not. Never fails: the tests skip with the reason.
set -eu

missing=""
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
    command -v google-chrome >/dev/null 2>&1 || missing="chromium"
[ -d /usr/share/fonts/truetype/dejavu ] || [ -d /System/Library/Fonts ] || [ -d /usr/share/fonts/dejavu ] ||
    missing="$missing fonts-dejavu-core"
[ -n "$missing" ] || exit 0

skip() {
    echo "Not installed:$(printf ' %s' $missing) ($1). Tests that need a browser are skipped." >&2
    exit 0
}

command -v apt-get >/dev/null 2>&1 || skip "no apt-get here; install them by hand"
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif sudo -n true >/dev/null 2>&1; then
    as_root="sudo -n"
else
    skip "needs root: sudo apt-get install $missing"
fi

echo "Installing$(printf ' %s' $missing) with apt-get"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
apt() { $as_root apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >>"$log" 2>&1; }
if ! { apt update && apt install -y --no-install-recommends $missing; }; then
    tail -n 5 "$log" >&2
    skip "apt-get failed"
fi
