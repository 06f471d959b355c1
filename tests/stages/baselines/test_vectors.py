"""Baselines on feature vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crkd.commands.main import main
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.evaluation.predictions_file import load_predictions
from crkd.stages.baselines.simgcd_head import simgcd_head
from crkd.stages.baselines.vectors import SETTINGS, baseline_on_vectors, fit_baseline

KNOWN, NOVEL, EACH, WIDTH = 4, 2, 30, 8


def clouds() -> tuple[np.ndarray, np.ndarray]:
    centers = 4 * np.random.default_rng(0).standard_normal((KNOWN + NOVEL, WIDTH))
    labels = np.arange(KNOWN + NOVEL).repeat(EACH)
    noise = np.random.default_rng(1).standard_normal((len(labels), WIDTH))
    return (centers[labels] + noise).astype(np.float32), labels


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("vectors")
    rows, labels = clouds()
    made = []
    for name, part in (("known", labels < KNOWN), ("novel", labels >= KNOWN)):
        file = folder / f"{name}.npz"
        np.savez(file, features=rows[part], label=np.array([f"c{c}" for c in labels[part]]))
        made.append(str(file))
    return made


def config_of(files: list[str], fraction: float = 0.5) -> Config:
    return load_config(
        None,
        [f"data.labeled_fraction={fraction}"],
        {"dataset": "features", "data": {"features": files}},
    )


@pytest.mark.parametrize("name", list(SETTINGS))
def test_known_outputs_mean_known_classes(name: str, files: list[str], tmp_path: Path) -> None:
    run = baseline_on_vectors(config_of(files), tmp_path / "run", name)
    table = load_predictions(run.path / "predictions.parquet")
    train = table.of("train")
    assert train.sum() == (KNOWN // 2 + NOVEL) * EACH
    known = train & (table.label < KNOWN)
    joint = table.joint_heads[0]
    assert (joint[known] == table.label[known]).mean() > 0.8
    assert (joint[train & ~known] >= KNOWN).mean() > 0.7
    choice = json.loads((run.path / "choice.json").read_text())
    assert choice["chosen"] in choice["scores"]
    assert {len(values) for values in choice["scores"].values()} == {2}


def test_all_unlabeled_vectors_may_be_novel(files: list[str], tmp_path: Path) -> None:
    """Without mixing, k-means has as many clusters as novel classes."""
    run = baseline_on_vectors(config_of(files, 1.0), tmp_path / "run", "kmeans")
    table = load_predictions(run.path / "predictions.parquet")
    train = table.of("train")
    assert len(np.unique(table.novel_heads[0][train])) == NOVEL
    assert run.read_metrics()["task_aware"]["train"]["novel"]["acc"] > 0.95


def test_the_choice_reads_no_novel_vector(files: list[str]) -> None:
    rows, labels = clouds()
    known = labels < KNOWN
    config = config_of(files)
    found = [
        fit_baseline("kmeans", rows[known], labels[known], unlabeled, NOVEL, config)
        for unlabeled in (rows[~known], rows[~known][::-1] * np.float32(2))
    ]
    assert found[0].scores == found[1].scores


def test_simgcd_finds_separated_classes_and_repeats_itself() -> None:
    rows, labels = clouds()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    known = labels < KNOWN
    settings = {"dropout": 0.1, "entropy_weight": 2.0, "seed": 0}
    prototypes = simgcd_head(rows[known], labels[known], rows, NOVEL, **settings)
    assert prototypes.shape == (KNOWN + NOVEL, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(prototypes, axis=1), 1, rtol=1e-5)
    predicted = (rows @ prototypes.T).argmax(axis=1)
    assert (predicted[known] == labels[known]).mean() > 0.95
    again = simgcd_head(rows[known], labels[known], rows, NOVEL, **settings)
    np.testing.assert_array_equal(prototypes, again)


def test_refusals(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert main(["baseline", "uno", "--features", *files, *out]) == 2
    assert "trains a network, and --features gives vectors" in capsys.readouterr().err
    assert main(["baseline", "kmeans", "--features", *files, "--dataset", "digits", *out]) == 2
    assert "--dataset does not go with --features" in capsys.readouterr().err
    assert main(["baseline", "kmeans", "--features", *files, "--num-novel", "500", *out]) == 2
    assert "--num-novel 500 exceeds the 60 unlabeled vectors" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["baseline kmeans", "increments --plan 4-4", "discover"])
@pytest.mark.parametrize(
    "flag", ["--image-size 0", "--weights absent", "--download", "--novel absent"]
)
def test_flags_of_images_are_refused_with_vectors(
    verb: str, flag: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert main([*verb.split(), "--features", *files, *flag.split(), *out]) == 2
    name = flag.split()[0]
    assert f"{name} does not go with --features of feature vectors;" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
