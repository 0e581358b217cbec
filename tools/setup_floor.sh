#!/bin/sh
# Set up an environment with the oldest versions that requirements.txt allows, and print the path of its Python; everything
# else goes to stderr. It is .floor beside setup.py, or $FLOOR_ENV; Python 3.10 where there is one, else what there is.
# An environment of these versions that is there already, with a torch of another index such as 2.6.0+cpu, is used as it is.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
env=${FLOOR_ENV:-$root/.floor}
suitable() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 2; }

if ! [ -x "$env/bin/python" ]; then
    base=
    for name in python3.10 "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.10.*/bin/python \
        python3.11 python3.12 python3.13 python3 python; do
        if suitable "$name"; then base=$name; break; fi
    done
    [ -n "$base" ] || fail "the oldest versions need Python 3.10 to 3.13, and none is here: install one"
    "$base" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' ||
        say "note: no Python 3.10 here, the oldest versions are tested with $("$base" --version)"
    "$base" -m venv "$env" >&2 || { rm -rf "$env"; fail "'$base -m venv' failed: install python3-venv, then try again"; }
fi
python=$env/bin/python
suitable "$python" || fail "$python is $("$python" --version 2>&1), Python 3.10 to 3.13 is needed: remove $env"

# For Python 3.13, most of the oldest have no wheels: there it is torch alone that is old.
old='[A-Za-z]'
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 13))' && old=torch
pinned=$(sed -n "s/^\($old.*\)>=/\1==/p" "$root/requirements.txt")
stamp=$env/.mmrazor_lite_floor
if ! [ -f "$stamp" ] || [ "$(cat "$stamp")" != "$pinned $root" ]; then
    say "Installing the oldest versions into $env (once; a few minutes, most of it the download of PyTorch)"
    # shellcheck disable=SC2086  # one word each
    "$python" -m pip install --disable-pip-version-check --quiet $pinned --editable "$root[tests]" >&2 ||
        fail "the oldest versions cannot be installed, see above: they are what CI has to test, so it ends here"
    printf '%s' "$pinned $root" >"$stamp"
fi
printf '%s\n' "$python"
