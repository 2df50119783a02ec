#!/bin/sh
# Prints the newest Python on PATH that can run SalNAS and make a virtual environment. PYTHON overrides.
set -eu

works() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            >/dev/null 2>&1
}

for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if works "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
done

{
    echo "SalNAS needs Python 3.11, 3.12 or 3.13 with its venv module; found none that works${PYTHON:+ at PYTHON=$PYTHON}."
    echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13)"
    echo "or name one: make setup PYTHON=/path/to/python3.13"
} >&2
exit 1
