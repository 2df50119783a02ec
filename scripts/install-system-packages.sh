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
. "$(dirname "$0")/apt.sh"
apt install -y --no-install-recommends $missing
