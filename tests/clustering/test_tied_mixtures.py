from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.clustering.tied_gaussians import TiedGaussians
from crkd.clustering.tied_mixtures import PROTOTYPES, TiedMixtures
from crkd.core.errors import InputError


def ring(points: int = 600) -> np.ndarray:
    """A class that no Gaussian describes: its mean is empty."""
    draw = np.random.default_rng(0)
    angle = draw.uniform(0, 2 * np.pi, points)
    rows = 5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (rows + 0.1 * draw.standard_normal(rows.shape)).astype(np.float32)


def test_drawn_rows_have_the_shape_of_the_class() -> None:
    rows = ring()
    memory = TiedMixtures.fit(rows, np.zeros(len(rows), np.int64), 1)
    drawn, labels = memory.sample(500, seed=0)
    assert drawn.dtype == np.float32
    assert (labels == 0).all()
    radius = np.linalg.norm(drawn, axis=1)
    assert np.quantile(radius, 0.01) > 3.5
    # One Gaussian of the same class fills the hole.
    single = TiedGaussians.fit(rows, np.zeros(len(rows), np.int64), 1)
    filled = single.around(np.zeros(500, np.int64), np.random.default_rng(0))
    assert np.quantile(np.linalg.norm(filled, axis=1), 0.1) < 3


def test_joined_rows_are_those_of_their_classes() -> None:
    draw = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [50, 30, 40])
    rows = draw.standard_normal((120, 4)).astype("f4") + 3 * labels[:, None]
    more, owners = draw.standard_normal((36, 4)).astype("f4") - 9, np.repeat([2, 0], [24, 12])
    joined = TiedMixtures.fit(rows, labels, 3).joined(more, owners)
    assert joined.counts.tolist() == [62, 30, 64]
    assert (np.diff(joined.classes) >= 0).all()
    everything, classes = np.concatenate([rows, more]), np.concatenate([labels, owners])
    for number, mean in enumerate(joined.means):
        np.testing.assert_allclose(mean, everything[classes == number].mean(axis=0), atol=1e-5)
    drawn, of = joined.sample(400, seed=0)
    shares = [(drawn[of == number].mean(axis=1) < -6).mean() for number in range(3)]
    np.testing.assert_allclose(shares, [12 / 62, 0, 24 / 64], atol=0.08)


def test_means_counts_and_covariance_are_those_of_the_rows() -> None:
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [50, 3, 400])
    rows = (draw.standard_normal((3, 4))[labels] * 3 + draw.standard_normal((453, 4))).astype("f4")
    memory = TiedMixtures.fit(rows, labels, 3)
    single = TiedGaussians.fit(rows, labels, 3)
    np.testing.assert_allclose(memory.means, single.means, atol=1e-5)
    assert memory.counts.tolist() == [50, 3, 400]
    np.testing.assert_allclose(memory.covariance(), single.covariance(), rtol=1e-4, atol=1e-5)
    sizes = np.bincount(memory.classes)
    assert sizes[1] == 1
    assert sizes.max() <= PROTOTYPES


def test_classes_join_and_part() -> None:
    draw = np.random.default_rng(1)
    labels = np.arange(300) % 5
    rows = (4 * draw.standard_normal((5, 3))[labels] + draw.standard_normal((300, 3))).astype("f4")
    old = labels < 3
    first = TiedMixtures.fit(rows[old], labels[old], 3)
    both = first.followed_by(TiedMixtures.fit(rows[~old], labels[~old] - 3, 2))
    assert both.num_classes == 5
    np.testing.assert_allclose(both.means, TiedGaussians.fit(rows, labels, 5).means, atol=1e-5)
    again = both.first(3)
    assert again.num_classes == 3
    np.testing.assert_array_equal(again.parts.means, first.parts.means)
    np.testing.assert_array_equal(again.classes, first.classes)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 5))
def test_every_class_is_drawn_as_often(labels: list[int], seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((len(labels), 3)).astype(np.float32)
    memory = TiedMixtures.fit(rows, np.array(labels), 4)
    drawn, classes = memory.sample(7, seed=seed)
    assert np.bincount(classes, minlength=4).tolist() == [7] * 4
    assert np.isfinite(drawn).all()
    assert (np.diff(memory.classes) >= 0).all()


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="2 rows with labels outside of 0 to 1"):
        TiedMixtures.fit(np.ones((2, 3), np.float32), np.array([0, 2]), 2)
