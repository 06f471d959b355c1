"""Whether a step on vectors is refused because its vectors fit the classes of the run."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from crkd.core.errors import InputError
from crkd.inference.predict import predict
from crkd.inference.table import read
from crkd.runs.folder import RunFolder
from crkd.stages.vectors.start import next_start
from tests.support.vector_clouds import KMEANS, clouds, config_of, save


def start(parent: Path, file: Path) -> int:
    """Begin a step and return its number of vectors."""
    config = config_of([str(file)], KMEANS, "discover.num_novel=2")
    return len(next_start(config, RunFolder(parent)).fresh)


def with_threshold(run: Path, place: Path, threshold: float) -> Path:
    """Copy a run, and give its joined score another threshold."""
    shutil.copytree(run, place)
    values = json.loads((place / "outliers.json").read_text())
    values["joined"]["threshold"] = threshold
    (place / "outliers.json").write_text(json.dumps(values))
    return place


def test_vectors_fit_that_predict_calls_no_outliers(run: Path, tmp_path: Path) -> None:
    rows, _ = clouds(2)
    save(tmp_path / "same.parquet", rows, None)
    predict(run, [tmp_path / "same.parquet"], tmp_path / "rows.json", device=torch.device("cpu"))
    fitting = sum(not row.outlier for row in read(tmp_path / "rows.json"))
    assert 0.93 * len(rows) <= fitting < len(rows)
    with pytest.raises(InputError, match=f"^{fitting} of {len(rows)} unlabeled samples fit a"):
        start(run, tmp_path / "same.parquet")


def test_outliers_are_taken_whatever_their_energy(run: Path, tmp_path: Path) -> None:
    """``predict`` and ``watch`` count outliers by the joined score, so the check does too."""
    rows, _ = clouds(2)
    save(tmp_path / "same.parquet", rows, None)
    everything = with_threshold(run, tmp_path / "everything", -1e9)
    assert start(everything, tmp_path / "same.parquet") == len(rows)
    nothing = with_threshold(run, tmp_path / "nothing", 1e9)
    save(tmp_path / "far.parquet", -3 * rows, None)
    assert start(run, tmp_path / "far.parquet") == len(rows)
    with pytest.raises(InputError, match=f"{len(rows)} of {len(rows)} unlabeled samples fit"):
        start(nothing, tmp_path / "far.parquet")


def test_a_missing_file_of_the_test_is_named(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "outliers.safetensors").unlink()
    save(tmp_path / "same.parquet", clouds(2)[0], None)
    with pytest.raises(InputError, match=r"outliers\.safetensors is missing; restore it"):
        start(copy, tmp_path / "same.parquet")


@pytest.mark.parametrize(("threshold", "refused"), [(1e9, True), (-1e9, False)])
def test_a_run_without_reference_vectors_is_checked_by_the_energy(
    run: Path, tmp_path: Path, threshold: float, *, refused: bool
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "outliers.json").write_text(json.dumps({"threshold": threshold}))
    save(tmp_path / "same.parquet", clouds(2)[0], None)
    with pytest.raises(InputError, match="samples fit a") if refused else nullcontext():
        start(copy, tmp_path / "same.parquet")
