#!/bin/sh
# What the tests of the job store on PostgreSQL need: its server programs. No server of the system is started or
# changed; each test run starts one of its own in a temporary folder. Never fails: the tests skip with the reason.
set -eu

if command -v pg_ctl >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/pg_ctl >/dev/null 2>&1; then
    exit 0
fi

skip() {
    echo "PostgreSQL is not installed ($1). Tests that need it are skipped." >&2
    exit 0
}

command -v apt-get >/dev/null 2>&1 || skip "no apt-get here; install it by hand"
missing=postgresql
. "$(dirname "$0")/apt.sh"
# The package of postgresql-common reads this before that of the server would create a cluster and start it.
apt install -y --no-install-recommends postgresql-common
echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.d/salnas.conf >/dev/null
apt install -y --no-install-recommends postgresql
