#!/bin/sh
# make-venv.sh FOLDER: makes a virtual environment there, or keeps the one that is there and works.
set -eu
venv=$1

if "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    exit 0
fi
python=$(sh "$(dirname "$0")/find-python.sh")
echo "Creating $venv with $("$python" --version)"
"$python" -m venv --clear "$venv"
