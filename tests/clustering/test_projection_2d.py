from __future__ import annotations

import numpy as np
import pytest

from crkd.clustering.projection_2d import project_2d


def test_the_plane_shows_the_directions_between_class_means() -> None:
    rng = np.random.default_rng(0)
    means = np.zeros((3, 6))
    means[:, :2] = [[0, 1], [-1, -1], [1, -1]]
    classes = np.repeat([0, 1, 2], 50)
    rows = means[classes] + rng.normal(0, 0.02, (150, 6))
    rows[:, 5] = rng.normal(0, 0.4, 150)  # spreads most, within every class alike
    places = project_2d(rows.astype(np.float32), classes)
    centers = np.stack([places[classes == c].mean(axis=0) for c in range(3)])
    apart = np.linalg.norm(centers[:, None] - centers, axis=-1)[np.triu_indices(3, 1)]
    spread = np.linalg.norm(places - centers[classes], axis=1)
    assert apart.min() > 4 * spread.mean()
    assert np.abs(places).max() == pytest.approx(1)
    assert project_2d(rows[:0].astype(np.float32), classes[:0]).shape == (0, 2)
    assert project_2d(rows[:, :1].astype(np.float32), classes).shape == (150, 2)
