#!/usr/bin/env bash
# Builds wheel and sdist of the last commit twice, in two folders and with other file times, and
# compares their bytes.
#
#   tests/wheel/reproducible.sh [PYTHON]
#
# PYTHON has hatchling (extra "release"; default: .venv/bin/python of the checkout).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PYTHON=$(realpath --no-symlinks "${1:-$ROOT/.venv/bin/python}")
PLACE=$(mktemp -d "${TMPDIR:-/tmp}/crkd-build.XXXXXX")
trap 'rm -rf "$PLACE"' EXIT

for number in 1 2; do
    copy=$PLACE/a-longer-name-$number/checkout
    mkdir -p "$copy"
    git -C "$ROOT" archive HEAD | tar -x -C "$copy"
    # The time of a checkout and the mask of permissions are those of the machine.
    find "$copy" -type f -exec touch -d "202$number-01-0$number" {} +
    (cd "$copy" && umask "02$number" && "$PYTHON" -m hatchling build -d "$PLACE/$number" > /dev/null)
done
diff -r "$PLACE/1" "$PLACE/2"
(cd "$PLACE/1" && sha256sum -- *)
