# To be sourced by a script that has put the packages it wants into `missing` and defined `skip REASON`, which ends it.
# After this `apt` is apt-get with the rights it needs; the script is skipped where it has none or a call fails.
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif sudo -n true >/dev/null 2>&1; then
    as_root="sudo -n"
else
    skip "needs root: sudo apt-get install $missing"
fi

apt() {
    $as_root apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >>"$log" 2>&1 && return
    tail -n 5 "$log" >&2
    skip "apt-get failed"
}

echo "Installing$(printf ' %s' $missing) with apt-get"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
apt update
