# Sourced by the scripts beside it.  Makes and reuses virtual environments below .venv/.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Without bytecode each of the many processes compiles offloop anew, which takes ten times as long as the rest of its start.
unset PYTHONDONTWRITEBYTECODE

# python_version PYTHON: prints "3.12" ("3.13t" for a free-threaded build), or one line on stderr, and status 2, if it is too old or missing.
python_version() {
    local found
    if ! command -v "$1" >/dev/null; then
        echo "there is no program '$1' (set PYTHON to choose a Python 3.11 or newer)" >&2
        exit 2
    elif ! found="$("$1" -c 'import sys, sysconfig; print("%d.%d" % sys.version_info[:2] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED"))); sys.exit(sys.version_info < (3, 11))' 2>&1)"; then
        echo "offloop needs Python 3.11 or newer; '$1' is ${found:-something else} (set PYTHON to choose another)" >&2
        exit 2
    fi
    echo "$found"
}

# make_environment DIRECTORY PYTHON EXTRAS: installs the project there, editable, with those extras.
# Costs nothing when neither pyproject.toml, the interpreter nor the extras changed since.
make_environment() {
    local directory="$1" python="$2" extras="$3" stamp
    stamp="$("$python" -c 'import sys; print(sys.version, sys.base_prefix)') [$extras] $(cksum <"$root/pyproject.toml")"
    if [[ -x "$directory/bin/python" && "$(cat "$directory/stamp" 2>/dev/null)" == "$stamp" ]]; then
        return
    fi
    echo "Setting up ${directory#"$root/"} ..." >&2
    "$python" -m venv --clear "$directory"
    "$directory/bin/python" -m pip install -qq --disable-pip-version-check --prefer-binary --editable "$root[$extras]"
    echo "$stamp" >"$directory/stamp"  # last, so that a broken installation is made anew
}
