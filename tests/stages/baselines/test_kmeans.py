from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crkd.evaluation.predictions_file import load_predictions
from crkd.stages.baselines.kmeans import kmeans_on_features
from tests.support.small_runs import scramble_hidden_labels, small_config


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
    scramble_hidden_labels(monkeypatch)
    again = kmeans_on_features(config, tmp_path / "scrambled", stage1, method="semi-kmeans")
    tables = [load_predictions(r.path / "predictions.parquet") for r in (run, again, plain)]
    first, scrambled, free = (table.joint_heads[:, table.of("train")] for table in tables)
    np.testing.assert_array_equal(first, scrambled)
    assert not np.array_equal(first, free)
