#!/usr/bin/env bash
# Makes the kept runs of the present schema: tests/runs/kept/make.sh [PYTHON]
# A folder that holds a run already is never written again.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
PYTHON=${1:-.venv/bin/python}
export OMP_NUM_THREADS=1 PYTHONPATH=.

VERSION=$("$PYTHON" -c 'from crkd.runs.folder import SCHEMA_VERSION; print(SCHEMA_VERSION)')
PLACE=tests/runs/kept/schema-$VERSION
SETTINGS=(
    --dataset digits --device cpu
    --set model.hidden=16 --set model.projection=8 --set model.num_heads=2
    --set data.validation_fraction=0.1 --set evaluation.kmeans_restarts=1 --set 'loop.loggers=[]'
)
"$PYTHON" tools/pretrain.py "${SETTINGS[@]}" --set pretrain.epochs=5 --out "$PLACE/pretrained"
"$PYTHON" tools/discover.py "${SETTINGS[@]}" --set discover.epochs=5 \
    --from "$PLACE/pretrained" --out "$PLACE/discovered"
# No command reads the picture, and it is a sixth of a run folder.
rm "$PLACE"/*/confusion.png
