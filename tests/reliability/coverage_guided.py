"""Coverage-guided fuzzing of one reader: ``coverage_guided.py TARGET SEED_FOLDER [-runs=N]``.

Needs atheris (extra "fuzz"). An error other than InputError ends the process with a traceback, and
libFuzzer writes the input to ``crash-DIGEST``.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

# The suite collects this file too.
atheris = pytest.importorskip("atheris")
with atheris.instrument_imports(include=["crkd"]):
    from crkd.core.errors import InputError
    from crkd.core.parquet_footer import column_chunks
    from crkd.data.vectors.table import read_features
    from crkd.inference.table import read
    from crkd.review.decisions import read_decisions
    from crkd.runs.calibration import read_calibration
    from crkd.runs.disputed import read_probabilities
    from crkd.runs.folder import RunFolder
    from crkd.runs.method_outputs import read_class_list, read_outputs
    from crkd.runs.reviewed_labels import read_labels
    from crkd.runs.stability import read_stability

KEPT = Path(__file__).parents[1] / "runs" / "kept" / "schema-3"
DIGEST = "0" * 64


def in_run(name: str, kept: str, read_it: Callable[[RunFolder], object]) -> tuple[str, str, object]:
    """Return a target that reads one file of a run folder."""
    return name, kept, lambda file: read_it(RunFolder(file.parent))


def footer(file: Path) -> None:
    """Read the footer of a Parquet file; OSError is its refusal."""
    try:
        column_chunks(file)
    except OSError as error:
        raise InputError(str(error)) from error


def _npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, features=np.eye(2), label=["a", "b"], id=["x", "y"])
    return content.getvalue()


TARGETS = {
    "run": in_run("run.json", "vectors", RunFolder.read_info),
    "calibration": in_run("calibration.json", "discovered", read_calibration),
    "stability": in_run("stability.json", "vectors", read_stability),
    "labels": in_run("reviewed-labels.json", "reviewed", read_labels),
    "disputed": in_run("disputed.csv", "vectors", read_probabilities),
    "decisions": (
        "decisions.json",
        "reviewed",
        lambda file: read_decisions(
            file,
            model_sha256=DIGEST,
            shown_sha256=DIGEST,
            names=["a", "b"],
            num_known=1,
            images=["x"],
        ),
    ),
    "predicted": ("x.csv", "", read),
    "outputs": ("x.csv", "", lambda file: read_outputs(file, 2)),
    "npz": ("x.npz", "", read_features),
    "classes": ("known.txt", "", read_class_list),
    "footer": ("predictions.parquet", "vectors", footer),
}
SEEDS = {
    "disputed": b"image,class_name,probability,known_class,known_probability\n"
    b"a,novel-0,0.4,cat,0.6\n",
    "predicted": b"path,kind,class_id,class_name,confidence,top,nearest_known\n"
    b"a,novel,1,b,0.5,{},{}\n",
    "outputs": b"id,prediction,label,part\na,0,1,train\n",
    "classes": b"cat\ndog\n",
    "npz": _npz(),
}


def main() -> None:
    """Fuzz until the runs of the command line are done."""
    name, seeds, *flags = sys.argv[1:]
    file_name, kept, read_it = TARGETS[name]
    folder = Path(tempfile.mkdtemp())
    if kept:
        shutil.copytree(KEPT / kept, folder, dirs_exist_ok=True)
    file = folder / file_name
    Path(seeds).mkdir(parents=True, exist_ok=True)
    sound = SEEDS[name] if name in SEEDS else file.read_bytes()
    (Path(seeds) / "seed").write_bytes(sound)

    def one(content: bytes) -> None:
        file.write_bytes(content)
        try:
            read_it(file)
        except InputError:
            return

    atheris.Setup([sys.argv[0], seeds, "-max_len=8192", *flags], one)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
