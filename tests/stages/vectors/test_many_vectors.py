"""Discovery on vectors that stay in files, and on a sample of very many."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from crkd.commands.main import main
from crkd.core.errors import InputError
from crkd.data.vectors import declared_size, table
from crkd.data.vectors.row_file import RowFile, StackedRows
from crkd.evaluation.predictions_file import load_predictions
from crkd.inference.table import read
from crkd.runs.folder import RunFolder
from crkd.stages.vectors import data as vector_data_module
from crkd.stages.vectors import sampling
from crkd.stages.vectors.data import vector_data
from crkd.stages.vectors.run import discover_vectors
from tests.support.vector_clouds import EACH, KMEANS, KNOWN, NOVEL, clouds, config_of, save

SAMPLE = 40


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "IN_MEMORY", 256)


@pytest.fixture
def sampled(in_files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let discoveries learn from 40 of 90 unlabeled and of 108 labeled vectors."""
    monkeypatch.setattr(sampling, "MOST_ROWS", SAMPLE)
    monkeypatch.setattr(sampling, "ROWS_OF_A_CLASS", 1)
    monkeypatch.setattr(vector_data_module, "PIECE_ROWS", 32)


def bits(run: Path) -> dict[str, bytes]:
    names = ("model.safetensors", "contest.json", "outliers.json", "rejected.csv", "disputed.csv")
    found = {name: (run / name).read_bytes() for name in names if (run / name).is_file()}
    assert len(found) >= 4
    predictions = load_predictions(run / "predictions.parquet")
    for name in ("label", "known_head", "novel_heads", "joint_heads", "confidence"):
        found[name] = getattr(predictions, name).tobytes()
    return found


def test_vectors_in_files_give_the_bits_of_vectors_in_memory(
    files: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config = config_of(files, KMEANS)
    runs = [discover_vectors(config, tmp_path / "memory").path]
    request.getfixturevalue("in_files")
    assert isinstance(vector_data(config).vectors, StackedRows)
    runs.append(discover_vectors(config, tmp_path / "files").path)
    assert bits(runs[0]) == bits(runs[1])
    for run in runs:
        words = [str(run), *files, "--out", str(run / "rows.csv"), "--device", "cpu"]
        assert main(["predict", *words]) == 0
    texts = [(run / "rows.csv").read_text() for run in runs]
    assert texts[0] == texts[1]


@pytest.mark.usefixtures("sampled")
def test_a_discovery_on_a_sample_predicts_all_vectors(files: list[str], tmp_path: Path) -> None:
    run = discover_vectors(config_of(files, KMEANS), tmp_path / "run")
    notes = run.read_info().notes
    assert f"learned from a sample of 40 of {NOVEL * EACH} unlabeled vectors" in notes
    assert f"learned from a sample of 40 of {KNOWN * EACH * 9 // 10} labeled vectors" in notes
    predictions = load_predictions(run.path / "predictions.parquet")
    assert predictions.of("train").sum() == NOVEL * EACH
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["task_aware"]["train"]["novel"]["acc"] == 1.0
    assert metrics["task_agnostic"]["test"]["known"]["acc"] == 1.0
    words = [str(run.path), files[1], "--out", str(tmp_path / "rows.json"), "--device", "cpu"]
    assert main(["predict", *words]) == 0
    table_rows = read(tmp_path / "rows.json")
    joint = predictions.joint_heads[0, predictions.of("train")]
    assert [row.class_id for row in table_rows] == joint.tolist()


@pytest.mark.usefixtures("sampled")
def test_outputs_in_pieces_are_those_of_all_vectors(
    files: list[str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crkd.runs.load import open_run

    network = open_run(run, torch.device("cpu")).network
    data = vector_data(config_of(files))
    found = data.outputs(network, data.subsets.unlabeled)
    assert isinstance(found.features, RowFile)
    monkeypatch.setattr(sampling, "MOST_ROWS", 10_000)
    data = vector_data(config_of(files))
    expected = data.outputs(network, data.subsets.unlabeled)
    np.testing.assert_array_equal(np.asarray(found.features), np.float32(expected.features))
    np.testing.assert_array_equal(found.known_logits, np.float32(expected.known_logits))
    np.testing.assert_array_equal(found.novel_logits, np.float32(expected.novel_logits))


@pytest.mark.usefixtures("sampled")
def test_the_sample_has_every_known_class_and_no_label_of_novel_vectors(
    files: list[str], tmp_path: Path
) -> None:
    data = vector_data(config_of(files))
    known, novel = data.fitted_known, data.fitted_novel
    assert np.bincount(known.labels).tolist() == [SAMPLE // KNOWN] * KNOWN
    assert len(novel) == SAMPLE
    assert set(novel.labels) == {-1}
    source = data.dataset.train.ids
    assert novel.ids == [source[row] for row in novel.indices]
    rows, classes = clouds(1)
    np.testing.assert_array_equal(
        data.of(novel).numpy(),
        np.concatenate([rows[classes < KNOWN], rows[classes >= KNOWN]])[novel.indices],
    )
    scrambled = np.random.default_rng(5).permutation(classes[classes >= KNOWN])
    save(tmp_path / "s.parquet", rows[classes >= KNOWN], [f"c{c}" for c in scrambled])
    runs = [
        discover_vectors(config_of([files[0], novel_file], KMEANS), tmp_path / name).path
        for name, novel_file in (("run", files[1]), ("other", str(tmp_path / "s.parquet")))
    ]
    for name in ("model.safetensors", "contest.json", "outliers.json"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes()


@pytest.mark.usefixtures("in_files")
def test_too_little_memory_is_told_before_a_run_begins(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declared_size, "free_host_bytes", lambda: 300 << 20)
    monkeypatch.setattr(vector_data_module, "held_bytes", lambda: 0)
    with pytest.raises(InputError, match=r"a discovery on 210 vectors needs .* GiB of memory, and"):
        discover_vectors(config_of(files, KMEANS), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.iterdir())
    # What the process holds is a part of what the discovery needs.
    monkeypatch.setattr(vector_data_module, "held_bytes", lambda: 800 << 20)
    assert discover_vectors(config_of(files, KMEANS), tmp_path / "run").path.is_dir()


@pytest.mark.usefixtures("sampled")
def test_an_incremental_step_learns_from_a_sample(
    files: list[str], run: Path, tmp_path: Path
) -> None:
    config = config_of([files[1]], KMEANS, "discover.precheck=false", "discover.num_novel=3")
    step = discover_vectors(config, tmp_path / "step", RunFolder(run).path)
    assert "sample of 40 of 90 unlabeled" in "".join(step.read_info().notes)
