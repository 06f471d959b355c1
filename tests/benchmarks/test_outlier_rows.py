"""Rows of the benchmark of outliers, on clouds of vectors instead of images."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import outlier
from benchmarks.outlier import FOREIGN, OTHERS, Setting, rows

EACH = 20


def clouds(data: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """A cloud for each of 100 classes; far from all of them, one for each foreign set."""
    draw = np.random.default_rng(len(part))
    if data != "cifar100":
        sign = 1 if data == FOREIGN[0] else -1
        return (draw.normal(0, 1, (40, 16)) + 40 * sign).astype(np.float32), np.zeros(40, np.int64)
    centers = np.random.default_rng(0).normal(0, 6, (100, 16))
    labels = np.repeat(np.arange(100), EACH)
    return (centers[labels] + draw.normal(0, 1, (len(labels), 16))).astype(np.float32), labels


@pytest.mark.parametrize("setting", [Setting(20, 0, EACH), Setting(5, 5, EACH)])
def test_far_clouds_are_found_by_every_score(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlier, "read", clouds)
    monkeypatch.setattr(outlier, "SETTINGS", (setting,))
    monkeypatch.setattr(outlier, "DRAWS", 2)
    found = list(rows())
    names = [row["name"].split(" among ")[0] for row in found]
    assert names == [*FOREIGN, OTHERS]
    for row in found:
        if row["name"].startswith(FOREIGN):
            assert row["neighbor"] == row["mahalanobis"] == row["joined"] == 100
            assert row["baseline"] == 100
        assert row["value"] == row["joined"] == np.mean(row["draws"]).round(1)
        assert 0 <= row["worst"] <= row["value"]
        assert all(share < 20 for share in row["false_alarms"].values())
