#!/bin/sh
# Set up what is missing or stale and print the path of the Python to use; everything else goes to stderr.
# usage: setup_env.sh [EXTRA]    EXTRA, such as docs, is one of setup.py beside [tests], which is always installed
# The active virtual environment is used where there is one, else .venv beside this repository's setup.py.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
env=${VIRTUAL_ENV:-$root/.venv}

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 2; }
suitable() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

if ! [ -x "$env/bin/python" ]; then
    base=
    for name in python3.11 python3.12 python3.13 python3.10 python3 python; do
        if suitable "$name"; then base=$name; break; fi
    done
    [ -n "$base" ] || fail "no Python 3.10 to 3.13 found on PATH: install one, or activate a virtual environment that has it"
    say "Creating $env with $("$base" --version)"
    "$base" -m venv "$env" >&2 || {
        rm -rf "$env"
        fail "'$base -m venv' failed: on Debian and Ubuntu run 'apt install python3-venv', then try again"
    }
fi
python=$env/bin/python
suitable "$python" || fail "$python is $("$python" --version 2>&1), Python 3.10 to 3.13 is needed: remove $env or activate another environment"

# One stamp per extra, state of the requirements and place of the clone: nothing is installed while it matches.
want=$(cd "$root" && "$python" -c '
import hashlib, sys
text = "".join(open(name).read() for name in ("setup.py", "requirements.txt")) + sys.version + sys.argv[1]
print(hashlib.sha256(text.encode()).hexdigest()[:16])' "$root")

install() {  # EXTRA STAMP SIZE
    [ ! -f "$2" ] || [ "$(cat "$2")" != "$want" ] || return 0
    "$python" "$root/tools/check_env.py" >&2 || exit 2
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >&2 ||
        fail "$env has no pip and ensurepip failed: remove $env, install python3-venv and try again"
    say "Installing into $env (once; $3)"
    quiet=--quiet
    [ ! -t 2 ] || quiet=
    # shellcheck disable=SC2086  # an empty $quiet must vanish
    "$python" -m pip install --disable-pip-version-check $quiet --editable "$root[$1]" >&2 ||
        fail "the installation failed, see above: check the network connection and the disk space, then try again"
    printf '%s\n' "$want" >"$2"
}

install tests "$env/.mmrazor_lite" "a few minutes, most of it the download of PyTorch"
[ $# -eq 0 ] || install "$1" "$env/.mmrazor_lite_$1" "the packages of [$1]"
printf '%s\n' "$python"
