from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from crkd.runs.class_info import ClassInfo
from crkd.runs.folder import RunFolder
from crkd.stages.discover.cluster_report import REJECTED, report_clusters, sentences
from crkd.stages.forward import Outputs

CLASSES = [ClassInfo(n, f"c{n}", "known") for n in range(5)]


def test_empty_clusters_pairs_and_outliers_are_named(tmp_path: Path):
    generator = np.random.default_rng(0)
    truth = np.arange(60) % 2
    features = (5 * np.eye(8)[truth] + generator.uniform(-0.1, 0.1, (60, 8))).astype(np.float32)
    features[7] = -10 * np.eye(8)[5]
    # The chosen head divides the first class in two and leaves cluster 3 empty; the others
    # see one class there.
    first = np.where(truth == 1, 2, np.arange(60) // 2 % 2)
    others = np.where(truth == 1, 2, 0)
    logits = 8 * np.eye(4, dtype=np.float32)[np.stack([first, others, others])]
    outputs = Outputs(features, np.zeros((60, 1), np.float32), logits)
    ids = [f"=image{n}" for n in range(60)]
    found = report_clusters(RunFolder(tmp_path), outputs, ids, CLASSES, 0)
    assert found["unused"] == ["c4"]
    assert [pair["classes"] for pair in found["merge"]] == [["c1", "c2"]]
    assert found["merge"][0]["agreement"] == 1.0
    rows = list(csv.DictReader((tmp_path / REJECTED).open()))
    assert [row["image"] for row in rows] == ["'=image7"]
    assert found["rejected"] == 1
    report = " ".join(sentences(found))
    assert "c4" in report
    assert "c1 and c2" in report
    assert REJECTED in report
