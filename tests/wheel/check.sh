#!/usr/bin/env bash
# Builds the wheel, installs it in a new virtual environment, and runs commands from another folder.
#
#   tests/wheel/check.sh [PYTHON]
#
# PYTHON is the interpreter of an environment in which the dependencies of crkd are installed
# (default: .venv/bin/python of the checkout). The new environment reads them from there. A plain
# path in a .pth file adds that folder to the import path behind the new environment, and the .pth
# files inside that folder are not read, so an editable crkd there stays out of sight.
# Building needs hatchling, which pip fetches.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PYTHON=$(realpath --no-symlinks "${1:-$ROOT/.venv/bin/python}")
unset PYTHONPATH PYTHONHOME CRKD_DATA
export OMP_NUM_THREADS=1

PLACE=$(mktemp -d "${TMPDIR:-/tmp}/crkd-wheel.XXXXXX")
trap 'rm -rf "$PLACE"' EXIT
mkdir "$PLACE/elsewhere"

say() { printf '\n== %s\n' "$*"; }

say "build the wheel"
"$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$PLACE/dist" "$ROOT"
WHEELS=("$PLACE"/dist/crkd-*.whl)
test "${#WHEELS[@]}" = 1
basename "${WHEELS[0]}"

say "install it in a new environment"
"$PYTHON" -m venv --without-pip "$PLACE/venv"
NEW=$PLACE/venv/bin/python
"$PYTHON" -m pip --python "$NEW" install --quiet --no-deps --no-index "${WHEELS[0]}"
site() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
site "$PYTHON" > "$(site "$NEW")/dependencies.pth"

cd "$PLACE/elsewhere"
"$NEW" - "$PLACE/venv" "$ROOT" <<'PYTHON_CODE'
"""Everything of crkd is read from the new environment."""
import importlib.util
import pkgutil
import sys
from importlib.metadata import distribution
from pathlib import Path

import crkd

venv, root = (Path(argument).resolve() for argument in sys.argv[1:])
assert root not in [Path(entry).resolve() for entry in sys.path], sys.path
assert Path(crkd.__file__).resolve().is_relative_to(venv), crkd.__file__
assert Path(str(distribution("crkd").locate_file(""))).resolve().is_relative_to(venv)
count = 0
for module in pkgutil.walk_packages(crkd.__path__, "crkd."):
    spec = importlib.util.find_spec(module.name)
    assert Path(spec.origin).resolve().is_relative_to(venv), spec.origin
    count += 1
print(f"crkd {crkd.__version__}: {count} modules, all in {Path(crkd.__file__).parent}")
PYTHON_CODE

crkd() {
    say "crkd $*"
    "$PLACE/venv/bin/crkd" "$@"
}

crkd --version
crkd --help
crkd discover --dataset digits --pretrain --device cpu --out runs/found \
    --set pretrain.epochs=1 --set discover.epochs=1 --set model.hidden=16 --set model.projection=8 \
    --set model.num_heads=2 --set evaluation.kmeans_restarts=1
for file in run.json config.yaml model.safetensors predictions.parquet metrics.json confusion.png; do
    test -s "runs/found/$file"
done
crkd evaluate runs/found
crkd predict --example --device cpu
test -s crkd-example/predictions.csv
crkd reproduce --list

say "the wheel works"
