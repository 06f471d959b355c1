"""Discovery on feature vectors of which some are of known or of earlier classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from crkd.clustering.novelty.known_or_novel import known_check
from crkd.evaluation.predictions_file import load_predictions
from crkd.stages.vectors.precheck import MOSTLY_KNOWN
from crkd.stages.vectors.run import discover_vectors
from tests.support.vector_clouds import EACH, KMEANS, KNOWN, NOVEL, WIDTH, clouds, config_of, save


def mixed_files(folder: Path, hidden: list[str] | None = None) -> list[str]:
    """Two thirds of the unlabeled vectors are of known classes."""
    rows, classes = clouds(1)
    known, novel = classes < KNOWN, classes >= KNOWN
    more = clouds(3)[0][known]
    truth = [f"c{c}" for c in (*classes[known], *classes[novel])]
    save(folder / "known.parquet", rows[known], [f"c{c}" for c in classes[known]])
    save(folder / "novel.parquet", np.concatenate([more, rows[novel]]), hidden or truth)
    return [str(folder / f"{name}.parquet") for name in ("known", "novel")]


MIXED = (KMEANS, "discover.mixed=true", f"discover.num_novel={NOVEL}")


def test_mixed_vectors_are_predicted_and_scored_over_all_classes(tmp_path: Path) -> None:
    found = discover_vectors(config_of(mixed_files(tmp_path), *MIXED), tmp_path / "run")
    table = load_predictions(found.path / "predictions.parquet")
    train = table.of("train")
    assert train.sum() == (KNOWN + NOVEL) * EACH
    joint = table.joint_heads[0][train]
    known = np.arange(KNOWN).repeat(EACH)
    assert (joint[: KNOWN * EACH] == known).mean() > 0.95
    assert (joint[KNOWN * EACH :] >= KNOWN).mean() > 0.95
    assert not table.baselines
    assert not (found.path / "disputed.csv").exists()
    measured = json.loads((found.path / "known-filter.json").read_text())
    assert measured["known_share"] == pytest.approx(KNOWN / (KNOWN + NOVEL), abs=0.15)


def test_hidden_labels_change_nothing_in_the_mixed_setting(tmp_path: Path) -> None:
    names = [f"c{c}" for c in (*range(KNOWN), *range(KNOWN + NOVEL)) for _ in range(EACH)]
    runs = []
    for name, truth in (("one", None), ("other", names[::-1][: (KNOWN + NOVEL) * EACH])):
        (tmp_path / name).mkdir()
        files = mixed_files(tmp_path / name, truth)
        runs.append(discover_vectors(config_of(files, *MIXED), tmp_path / name / "run"))
    assert runs[0].read_info().model_sha256 == runs[1].read_info().model_sha256


def test_known_classes_alone_are_remarked_on(tmp_path: Path) -> None:
    rows, classes = clouds(1)
    known = classes < KNOWN
    save(tmp_path / "known.parquet", rows[known], [f"c{c}" for c in classes[known]])
    save(tmp_path / "again.parquet", clouds(3)[0][known], None)
    save(tmp_path / "novel.parquet", rows[~known], None)
    noted = []
    for name, settings in (("again", ()), ("again", ("discover.precheck=false",)), ("novel", ())):
        files = [str(tmp_path / f"{file}.parquet") for file in ("known", name)]
        config = config_of(files, KMEANS, "discover.num_novel=2", *settings)
        run = discover_vectors(config, tmp_path / f"run-{len(noted)}")
        noted.append([note for note in run.read_info().notes if "by estimate, and" in note])
    assert len(noted[0]) == 1
    assert f"of {KNOWN * EACH} unlabeled samples look like known classes" in noted[0][0]
    assert noted[1:] == [[], []]


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_of_known_classes_alone_differ_from_novel_ones(seed: int) -> None:
    digits = load_digits()
    rows, truth = digits.data.astype(np.float32), digits.target
    draw = np.random.default_rng(seed)
    known = np.isin(truth, draw.choice(10, 5, replace=False))
    order = draw.permutation(np.flatnonzero(known))
    labeled, others = np.array_split(order, 2)
    labels = np.unique(truth[labeled], return_inverse=True)[1].astype(np.int64)
    shares = [
        known_check(rows[labeled], labels, part, seed=0).share
        for part in (rows[others], rows[~known])
    ]
    assert shares[0] > MOSTLY_KNOWN
    assert shares[1] < 0.5


def test_the_other_half_of_known_vectors_is_unlabeled(files: list[str], tmp_path: Path) -> None:
    """With a labeled fraction, the run is one of generalized category discovery."""
    config = config_of(files, KMEANS, "data.labeled_fraction=0.5")
    found = discover_vectors(config, tmp_path / "run")
    table = load_predictions(found.path / "predictions.parquet")
    train = table.of("train")
    assert train.sum() == (KNOWN // 2 + NOVEL) * EACH
    assert ((table.label < KNOWN) & train).sum() == KNOWN // 2 * EACH
    right = table.joint_heads[0] == table.label
    assert right[train & (table.label < KNOWN)].mean() > 0.9


def test_a_step_recognizes_vectors_of_earlier_classes(run: Path, tmp_path: Path) -> None:
    """Among the new vectors are some of a known and of a discovered class."""
    rows, classes = clouds(5)
    old = (classes == 0) | (classes == KNOWN)
    fresh = np.random.default_rng(9).normal(size=(2 * EACH, WIDTH))
    centers = np.random.default_rng(8).normal(size=(2, WIDTH)) * 4
    new = (fresh + centers.repeat(EACH, axis=0)).astype(np.float32)
    save(tmp_path / "next.parquet", np.concatenate([rows[old], new]), None)
    config = config_of(
        [str(tmp_path / "next.parquet")], KMEANS, "discover.mixed=true", "discover.num_novel=2"
    )
    found = discover_vectors(config, tmp_path / "run", run)
    joint = load_predictions(found.path / "predictions.parquet").joint_heads[0]
    before = KNOWN + NOVEL
    assert (joint[: 2 * EACH] < before).mean() > 0.9
    assert (joint[2 * EACH :] >= before).mean() > 0.9
    assert (joint[:EACH] == 0).mean() > 0.9
