#!/usr/bin/env bash
# Everything the repository shows, from a fresh clone: makes the environment if there is none, then
# runs the notebooks (smoke, small, published) into reports/runs/PRESET/, one of them again to compare
# (repeat), the checks (test), builds the documentation (docs), or JupyterLab on what there is to look
# at (explore).
set -euo pipefail

here=$PWD
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
cd "$root"

usage() {
  cat <<'TEXT'
usage: ./run_all.sh [smoke|small|published] [--data-root DIR] [--only GLOB] [--jobs N]
       ./run_all.sh repeat [NOTEBOOK]
       ./run_all.sh test
       ./run_all.sh docs
       ./run_all.sh explore [DIR] [--no-browser] [--port N]

  smoke      minutes on 2 CPU cores; only shows that everything runs (default)
  small      a few hours on 2 CPU cores; the tables of docs/results.md, on phantoms
  published  the published sizes and data
  repeat     executes a notebook of smoke again (02_sketch_and_pyramid, the quickest with tables) and
             compares every table to the last digit
  test       lint, format, types, layers, tests with coverage
  docs       the documentation as a site in reports/site/html; notebooks are shown with the results
             in reports/runs, where there are some
  explore    JupyterLab with the results in reports/runs, or the images in DIR; if there are
             none yet, the model that comes with the package translates a phantom

  --data-root DIR   folder with the data; without it, phantoms are used. Like DIR of explore,
                    relative to where you stand
  --only GLOB       run only the notebooks whose name (without .ipynb) matches, e.g. '03*'
  --jobs N          notebooks at a time; without it, of smoke one a core (at most 4), else 1

Run again, only notebooks that changed or failed are repeated.
An active environment that already imports msgan from this folder is used as it is; otherwise .venv
is made, by $PYTHON or the first python3 >= 3.11 on the path.
TEXT
}

die() {
  echo "error: $*" >&2
  exit 2
}

# A path as it was given, relative to where the user stands, which is not always this folder.
from_here() {
  case $1 in
    /*) echo "$1" ;;
    *) echo "$here/$1" ;;
  esac
}

# --- arguments ---------------------------------------------------------------------------------
mode=smoke
case ${1-} in
  smoke | small | published | repeat | test | docs | explore) mode=$1; shift ;;
esac
options=()
notebook=02_sketch_and_pyramid
if [[ $mode == repeat && $# -gt 0 ]]; then
  notebook=$1
  shift
fi
if [[ $mode == explore ]]; then  # its arguments are those of msgan explore
  while (($#)); do
    case $1 in
      --port) options+=("${@:1:2}"); shift $(($# > 1 ? 2 : 1)) ;;
      -* | "") options+=("$1"); shift ;;
      *) options+=("$(from_here "$1")"); shift ;;
    esac
  done
fi
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --data-root)
      (($# >= 2)) || die "$1 needs a value"
      options+=("$1" "$(from_here "$2")")
      shift 2
      ;;
    --data-root=*) options+=("--data-root=$(from_here "${1#*=}")"); shift ;;
    --only | --jobs)
      (($# >= 2)) || die "$1 needs a value"
      options+=("$1" "$2")
      shift 2
      ;;
    --only=* | --jobs=*) options+=("$1"); shift ;;
    *) usage >&2; die "unknown argument: $1" ;;
  esac
done
[[ ! $mode =~ ^(test|docs|repeat)$ || ${#options[@]} -eq 0 ]] || die "$mode takes no options"

# --- environment -------------------------------------------------------------------------------
# Whether interpreter $1 imports msgan, and from this very folder. The folder itself must not be
# on its path for that, hence -P and the change of directory.
imports_this() {
  (cd / && "$1" -P - "$root" 2>/dev/null) <<'PY'
import importlib.util, pathlib, sys
spec = importlib.util.find_spec("msgan")
found = spec is not None and spec.origin is not None
sys.exit(not found or pathlib.Path(spec.origin).resolve().parents[1] != pathlib.Path(sys.argv[1]))
PY
}

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  local name
  for name in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
    if command -v "$name" >/dev/null && new_enough "$name"; then
      command -v "$name"
      return
    fi
  done
  die "no Python >= 3.11 found (python3 is $(python3 --version 2>&1 || true)); set PYTHON to one"
}

# What the environment was made from; the folder counts because a moved .venv does not work.
fingerprint() {
  "$1" - "$root" <<'PY'
import hashlib, pathlib, sys
files = (pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
parts = [sys.version.encode(), sys.argv[1].encode(), *files]
print(hashlib.sha256(b"\0".join(parts)).hexdigest())
PY
}

python=
active=$(command -v python || command -v python3 || true)
if [[ -n $active && $active != "$root/.venv/bin/"* ]] && imports_this "$active"; then
  python=$active
else
  python=$root/.venv/bin/python
  stamp=$root/.venv/.installed
  if ! new_enough "$python"; then
    base=$(find_python)
    echo "making .venv with $("$base" --version)"
    "$base" -m venv --clear .venv || {
      rm -rf .venv
      die "$base cannot make an environment (Debian and Ubuntu: apt-get install python3-venv)"
    }
  fi
  wanted=$(fingerprint "$python")
  if [[ $(cat "$stamp" 2>/dev/null || true) != "$wanted" ]]; then
    echo "installing the packages of constraints.txt (minutes, once)"
    "$python" -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt \
      -e '.[all]'
    # By all cores, which pip leaves idle, and without the tests of others. A package may hold a
    # file for another Python; one that is not compiled is compiled when it is imported.
    "$python" -m compileall -qq -j 0 -x '/tests/' "$root"/.venv/lib/python*/site-packages || true
    echo "$wanted" >"$stamp"
  fi
fi
PATH=$(dirname "$python"):$PATH
export PATH

# --- work --------------------------------------------------------------------------------------
if [[ $mode == explore ]]; then
  exec "$python" -m msgan.cli explore ${options[@]+"${options[@]}"}
fi
if [[ $mode == docs ]]; then
  exec "$python" docs/site/build.py
fi
if [[ $mode == repeat ]]; then
  exec "$python" -m msgan.cli verify "reports/runs/smoke/$notebook" --again
fi
if [[ $mode != test ]]; then
  exec "$python" -m msgan.report run --preset "$mode" ${options[@]+"${options[@]}"}
fi

failed=()
step() {
  echo "== $*"
  "$@" || failed+=("$*")
}

# Two processes of one thread each: the tests are many small ones, which more threads do not speed
# up. A file stays together, for what its tests share.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
tests=(python -m pytest -n "${MSGAN_TEST_WORKERS:-2}" --dist loadfile)
tests+=(--cov --cov-report= --cov-fail-under=0)
step python -m ruff check .
step python -m ruff format --check .
step python -m mypy
step lint-imports --no-logo
step "${tests[@]}"
# To be traced doubles the time of a test, so slow ones count only if the others reach too little.
if ((!${#failed[@]})) && ! python -m coverage report --format=total >/dev/null; then
  MSGAN_MEASURE_SLOW=1 step "${tests[@]}" -m slow --cov-append
fi
step python -m coverage report --skip-covered

if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "all checks passed"
