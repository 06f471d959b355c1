#!/usr/bin/env bash
# Makes the kept runs of the present schema that are missing: tests/runs/kept/make.sh [PYTHON]
# A folder that holds a run already is never written again.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
PYTHON=${1:-.venv/bin/python}
export OMP_NUM_THREADS=1 PYTHONPATH=.

VERSION=$("$PYTHON" -c 'from crkd.runs.folder import SCHEMA_VERSION; print(SCHEMA_VERSION)')
KEPT=tests/runs/kept
PLACE=$KEPT/schema-$VERSION
FILES=build/kept
mkdir -p "$FILES"
QUIET=(--set 'loop.loggers=[]')
SETTINGS=(
    --dataset digits --device cpu
    --set model.hidden=16 --set model.projection=8 --set model.num_heads=2
    --set data.validation_fraction=0.1 --set evaluation.kmeans_restarts=1 "${QUIET[@]}"
)

# make NAME VERB ARGUMENT...: a run of this name
make() {
    local out=$PLACE/$1 verb=$2
    shift 2
    [ -e "$out" ] || "$PYTHON" -m crkd.commands.main "$verb" "$@" --out "$out"
}

make pretrained pretrain "${SETTINGS[@]}" --set pretrain.epochs=5
make discovered discover "${SETTINGS[@]}" --set discover.epochs=5 --from "$PLACE/pretrained"

make distilled distill --teacher "$PLACE/discovered" --student resnet8 --device cpu \
    --set distill.epochs=5 "${QUIET[@]}"

"$PYTHON" "$KEPT/decisions.py" "$PLACE/discovered" "$FILES/decisions.json"
make reviewed apply-review "$PLACE/discovered" "$FILES/decisions.json" --device cpu

"$PYTHON" "$KEPT/vectors.py" "$FILES"
make vectors discover --features "$FILES/known.npz" "$FILES/novel.npz" --num-novel 2 \
    --device cpu "${QUIET[@]}"
make incremental discover --from "$PLACE/vectors" --features "$FILES/later.npz" --num-novel 1 \
    --device cpu

# No command reads the picture, and it is a sixth of a run folder.
rm -f "$PLACE"/*/confusion.png "$PLACE"/*/.lock
