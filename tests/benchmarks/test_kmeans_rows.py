from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.kmeans import pixel_rows, rows


def test_the_clusters_are_found_and_time_and_memory_told(tmp_path: Path) -> None:
    seconds, peak, before, accuracy, *_ = rows(samples=4000, width=64, data_root=tmp_path)
    assert seconds["unit"] == "s"
    assert peak["value"] >= before["value"] > 0
    assert accuracy["value"] > 80


def test_pixels_are_compared_with_scikit_learn() -> None:
    pixels = np.random.default_rng(0).random((200, 12)).astype(np.float32)
    seeding, whole, inertia = pixel_rows(pixels, clusters=4, restarts=3)
    assert seeding["unit"] == whole["unit"] == "s"
    assert seeding["ratio"] is not None
    assert whole["ratio"] is not None
    assert inertia["value"] == pytest.approx(inertia["baseline"], rel=0.05)


def test_without_cifar100_its_rows_have_no_value(tmp_path: Path) -> None:
    found = list(rows(samples=400, width=8, data_root=tmp_path))[4:]
    names = [row["name"] for row in pixel_rows(np.eye(60, dtype=np.float32), 50, 10)]
    assert [row["name"] for row in found] == names
    assert all(row["value"] is None is row["baseline"] for row in found)
