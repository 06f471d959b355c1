from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from crkd.commands.main import run_verb
from crkd.evaluation.predictions_file import load_predictions
from crkd.stages.baselines.kmeans import kmeans_on_features
from tests.support.small_runs import scramble_hidden_labels, small_config


def test_an_interrupted_run_starts_again_in_its_folder(stage1: Path, tmp_path: Path) -> None:
    run = kmeans_on_features(small_config(), tmp_path / "run", stage1)
    metrics, info = run.read_metrics(), run.read_info()
    run.write_info(dataclasses.replace(info, status="interrupted"))
    (run.path / "metrics.json").unlink()
    words = ["kmeans", "--config", str(run.path / "config.yaml"), "--from", str(stage1)]
    assert run_verb("baseline", [*words, "--out", str(run.path), "--resume"]) == 0
    assert run.read_info().status == "complete"
    assert run.read_metrics() == metrics


def test_semi_supervised_kmeans_is_scored_and_sees_no_hidden_label(
    stage1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()
    run = kmeans_on_features(config, tmp_path / "run", stage1, method="semi-kmeans")
    plain = kmeans_on_features(config, tmp_path / "plain", stage1)
    metrics = run.read_metrics()
    # Five digits: a fifth is chance.
    assert metrics["task_aware"]["train"]["novel"]["acc"] > 0.35
    assert any("tied to their class" in note for note in run.read_info().notes)
    assert [each.read_info().baseline for each in (run, plain)] == ["semi-kmeans", "kmeans"]
    scramble_hidden_labels(monkeypatch)
    again = kmeans_on_features(config, tmp_path / "scrambled", stage1, method="semi-kmeans")
    tables = [load_predictions(r.path / "predictions.parquet") for r in (run, again, plain)]
    first, scrambled, free = (table.joint_heads[:, table.of("train")] for table in tables)
    np.testing.assert_array_equal(first, scrambled)
    assert not np.array_equal(first, free)
