"""The columns of ``predict`` on a discovery on vectors."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from crkd.clustering.novelty.energy import energy_scores
from crkd.commands.main import main
from crkd.inference.predict import predict
from crkd.inference.table import COLUMNS, FORMATS, PredictedImage, read
from crkd.runs.atomic_files import save_tensors
from crkd.runs.folder import RunFolder
from crkd.runs.outliers import read_outliers
from crkd.stages.vectors.outliers import read_score
from crkd.stages.vectors.run import data_of_run
from crkd.stages.vectors.start import opened_discovery

CPU = torch.device("cpu")
KNOWN, NOVEL, EACH, WIDTH = 4, 2, 60, 12


def clouds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around centers, ``EACH`` of each class, and their classes."""
    centers = np.random.default_rng(0).normal(size=(KNOWN + NOVEL + 2, WIDTH)) * 3
    classes = np.arange(len(centers)).repeat(EACH)
    noise = np.random.default_rng(seed).normal(size=(len(classes), WIDTH))
    return (centers[classes] + noise).astype(np.float32), classes


def save(path: Path, rows: np.ndarray, labels: np.ndarray | None = None) -> str:
    extra = {} if labels is None else {"label": [f"c{label}" for label in labels]}
    np.savez(path, features=rows, **extra)
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    place = tmp_path_factory.mktemp("vectors")
    rows, classes = clouds(1)
    old, new = classes < KNOWN, (classes >= KNOWN) & (classes < KNOWN + NOVEL)
    files = [
        save(place / "known.npz", rows[old], classes[old]),
        save(place / "novel.npz", rows[new]),
        save(place / "next.npz", rows[classes >= KNOWN + NOVEL]),
    ]
    flags = ["--method", "whitened_kmeans", "--num-novel", "2"]
    out = place / "run"
    assert main(["discover", "--features", *files[:2], *flags, "--out", str(out)]) == 0
    further = ["--from", str(out), "--features", files[2], *flags, "--out", str(place / "next")]
    assert main(["discover", *further]) == 0
    return RunFolder.open(out)


def rows_of(run: RunFolder, rows: np.ndarray, tmp_path: Path) -> list[PredictedImage]:
    out = tmp_path / "rows.json"
    predict(run.path, [save(tmp_path / "new.npz", rows)], out, device=CPU)
    return read(out)


def alarms(rows: list[PredictedImage]) -> float:
    return float(np.mean([bool(row.outlier) for row in rows]))


def test_outliers_are_vectors_of_no_class(run: RunFolder, tmp_path: Path) -> None:
    unseen, classes = clouds(2)
    own = classes < KNOWN + NOVEL
    assert alarms(rows_of(run, unseen[own], tmp_path)) < 0.12
    assert alarms(rows_of(run, unseen[~own], tmp_path)) > 0.6
    noise = np.random.default_rng(3).normal(size=(200, WIDTH)).astype(np.float32)
    assert alarms(rows_of(run, noise, tmp_path)) > 0.9


@pytest.mark.parametrize("suffix", FORMATS)
def test_ids_of_vectors_stay_as_they_are(run: RunFolder, tmp_path: Path, suffix: str) -> None:
    ids = ["https://a.org/b.jpg", "https:/a.org/b.jpg", "./x", "x", "x/", "a//b"]
    table = {"id": ids, "vector": clouds(3)[0][: len(ids)].tolist()}
    pq.write_table(pa.table(table), tmp_path / "new.parquet")
    out = tmp_path / f"rows{suffix}"
    predict(run.path, [tmp_path / "new.parquet"], out, device=CPU)
    assert [row.path for row in read(out)] == ids


def test_a_further_step_counts_its_classes_as_classes(run: RunFolder, tmp_path: Path) -> None:
    further = RunFolder.open(run.path.with_name("next"))
    unseen, classes = clouds(2)
    assert alarms(rows_of(further, unseen[classes >= KNOWN + NOVEL], tmp_path)) < 0.12
    assert alarms(rows_of(further, unseen[classes < KNOWN + NOVEL], tmp_path)) < 0.12
    noise = np.random.default_rng(3).normal(size=(200, WIDTH)).astype(np.float32)
    assert alarms(rows_of(further, noise, tmp_path)) > 0.6


def test_the_threshold_leaves_five_percent_of_either_kind(run: RunFolder) -> None:
    data, gate = data_of_run(run), opened_discovery(run).gate
    threshold = json.loads((run.path / "outliers.json").read_text())["threshold"]
    shares = []
    for subset in (data.subsets.known_val, data.subsets.unlabeled):
        logits = gate.space.rows(data.of(subset).numpy()) @ gate.weights + gate.biases
        shares.append((energy_scores(logits) > threshold).mean())
    assert 0 < max(shares) <= 0.05


def test_the_joined_score_leaves_five_percent_of_either_kind(run: RunFolder) -> None:
    data, gate, entry = data_of_run(run), opened_discovery(run).gate, read_outliers(run)
    assert entry is not None
    score = read_score(run, entry)
    assert score is not None
    known, novel = (
        data.of(part).numpy() for part in (data.subsets.known_train, data.subsets.unlabeled)
    )
    assert len(score.reference) == len(known) + len(novel)
    assert is_part_of(np.concatenate([known, novel]), score.reference)
    shares = []
    for subset in (data.subsets.known_val, data.subsets.unlabeled):
        vectors = data.of(subset).numpy()
        energies = energy_scores(gate.scores(gate.space.rows(vectors)))
        shares.append((score.scores(energies, vectors) > score.threshold).mean())
    assert 0 < max(shares) <= 0.05


def test_a_step_keeps_reference_vectors_of_earlier_classes(run: RunFolder) -> None:
    """All of them fit here: 2,000 are kept."""
    scores = []
    for each in (run, RunFolder.open(run.path.with_name("next"))):
        entry = read_outliers(each)
        assert entry is not None
        scores.append(read_score(each, entry))
    first, second = scores
    assert first is not None
    assert second is not None
    assert len(second.reference) == len(first.reference) + 2 * EACH
    assert is_part_of(first.reference, second.reference)


def is_part_of(rows: np.ndarray, others: np.ndarray) -> bool:
    """Whether each row is among the others but for the rounding of half precision."""
    gaps = np.abs(rows[:, None] - others[None]).max(axis=2).min(axis=1)
    return bool((gaps < 0.02).all())


def test_a_run_of_an_earlier_version_goes_by_the_energy(run: RunFolder, tmp_path: Path) -> None:
    old = RunFolder(shutil.copytree(run.path, tmp_path / "old"))
    threshold = json.loads((old.path / "outliers.json").read_text())["threshold"]
    (old.path / "outliers.json").write_text(json.dumps({"threshold": threshold}))
    (old.path / "outliers.safetensors").unlink()
    rows, gate = clouds(2)[0], opened_discovery(old).gate
    energies = energy_scores(gate.scores(gate.space.rows(rows)))
    found = [row.outlier for row in rows_of(old, rows, tmp_path)]
    assert found == (energies > threshold).tolist()
    assert found != [row.outlier for row in rows_of(run, rows, tmp_path)]


@pytest.mark.parametrize("damage", ["missing", "short", "joined"])
def test_damaged_reference_vectors_are_refused(
    run: RunFolder, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run.path, tmp_path / "copy")
    file = copy / "outliers.safetensors"
    if damage == "missing":
        file.unlink()
    elif damage == "short":
        save_tensors(file, {"unit": torch.zeros(3, WIDTH).half(), "lengths": torch.ones(3)}, {})
    else:
        values = json.loads((copy / "outliers.json").read_text())
        values["joined"]["energy.spread"] = 0.0
        (copy / "outliers.json").write_text(json.dumps(values))
    vectors = save(tmp_path / "new.npz", clouds(2)[0][:5])
    assert main(["predict", str(copy), vectors, "--out", str(tmp_path / "rows.csv")]) == 2
    said = capsys.readouterr().err
    assert "restore it" in said
    assert not (tmp_path / "rows.csv").exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_column_that_the_run_cannot_tell_is_left_out(
    run: RunFolder, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"rows{suffix}"
    vectors = save(tmp_path / "new.npz", clouds(2)[0][:5])
    predict(run.path, [vectors], out, device=CPU)
    if suffix == ".csv":
        names = next(csv.reader(out.open(newline="")))
    elif suffix == ".json":
        names = list(json.loads(out.read_text())["images"][0])
    else:
        names = pq.read_schema(out).names
    # One head has no other head that could agree.
    assert names == [name for name in COLUMNS if name != "head_agreement"]
    rows = read(out)
    assert {row.head_agreement for row in rows} == {None}
    assert {type(row.outlier) for row in rows} == {bool}


def test_a_run_without_a_threshold_tells_no_outliers(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = (run.path / "outliers.json").read_text()
    vectors, out = save(tmp_path / "new.npz", clouds(2)[0][:5]), tmp_path / "rows.csv"
    command = ["predict", str(run.path), vectors, "--out", str(out)]
    try:
        (run.path / "outliers.json").unlink()
        assert main(command) == 0
        assert "no outlier detection" in capsys.readouterr().out
        assert "outlier" not in out.read_text().splitlines()[0]
        (run.path / "outliers.json").write_text('{"threshold": "NaN"}')
        assert main(command) == 2
        assert "outliers.json is damaged" in capsys.readouterr().err
    finally:
        (run.path / "outliers.json").write_text(kept)


def test_too_few_held_out_vectors_are_called_so(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = save(tmp_path / "new.npz", clouds(2)[0][:5])
    assert main(["predict", str(run.path), vectors, "--out", str(tmp_path / "rows.csv")]) == 0
    assert "the run held out 24 known images, and a temperature needs 50" in capsys.readouterr().out
