"""The whitened space against scipy, and sets too small to whiten by."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh, inv, sqrtm

from crkd.clustering import whitening
from crkd.clustering.whitening import principal_space, whitened_spaces
from crkd.core.errors import InputError


def whitened_space(known, labels, novel, **options):
    return whitened_spaces(known, labels, novel, (128,), **options)[0]


def classes(num=4, each=80, width=12, seed=0):
    draw = np.random.default_rng(seed)
    stretch = np.linspace(0.2, 3.0, width)
    labels = np.repeat(np.arange(num), each)
    means = 4 * draw.standard_normal((num, width))
    rows = means[labels] + stretch * draw.standard_normal((len(labels), width))
    return rows.astype(np.float32), labels


def test_it_is_the_formula_of_the_docstring():
    known, labels = classes()
    novel, _ = classes(seed=1)
    space = whitened_space(known, labels, novel, shrinkage=0.3, root=False)
    every = np.concatenate([known, novel]).astype(np.float64)
    rows = every - every.mean(axis=0)
    head = rows[: len(known)]
    means = np.stack([head[labels == c].mean(axis=0) for c in range(4)])
    residuals = head - means[labels]
    scatter = residuals.T @ residuals / (len(head) - 4)
    scatter = 0.7 * scatter + 0.3 * np.trace(scatter) / 12 * np.eye(12)
    expected = rows @ np.real(inv(sqrtm(scatter)))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = space.rows(every.astype(np.float32))
    # The axes are turned; what rows are to each other is the same.
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_directions_that_vary_within_classes_count_less():
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    rows = np.stack([10 * draw.standard_normal(400), labels + 0.1 * draw.standard_normal(400)], 1)
    space = whitened_space(rows, labels, rows, shrinkage=0.0, root=False)
    inside = space.rows(rows.astype(np.float32))
    gap = np.linalg.norm(inside[labels == 0].mean(axis=0) - inside[labels == 1].mean(axis=0))
    assert gap > 1.5


@pytest.mark.parametrize(
    ("known", "labels"),
    [
        (np.eye(2, 6, dtype=np.float32), np.array([0, 1])),
        (np.ones((5, 6), np.float32), np.zeros(5, np.int64)),
        (np.eye(6, dtype=np.float32)[[0, 1, 2]], np.array([0, 0, 1])),
    ],
    ids=["one row a class", "no variance", "three rows"],
)
def test_few_known_rows_are_enough(known, labels):
    novel = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    rows = whitened_space(known, labels, novel).rows(novel)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_constant_vectors_stay_finite():
    same = np.ones((10, 3), np.float32)
    assert np.isfinite(whitened_space(same, np.zeros(10, np.int64), same).rows(same)).all()


@pytest.mark.parametrize("count", [30, 5])
def test_principal_axes_do_not_depend_on_which_side_is_longer(count):
    rows = np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32)
    centered = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    expected = centered @ axes[:3].T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = principal_space(rows, width=3).rows(rows)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_signed_roots():
    rows = np.array([[4.0, -9.0], [1.0, 1.0], [0.0, 16.0]], np.float32)
    rooted = np.array([[2.0, -3.0], [1.0, 1.0], [0.0, 4.0]], np.float32)
    left, right = principal_space(rows, root=True), principal_space(rooted)
    np.testing.assert_allclose(left.rows(rows), right.rows(rooted), atol=1e-6)


def test_what_does_not_fit_is_refused():
    rows, labels = classes()
    space = whitened_space(rows, labels, rows)
    with pytest.raises(InputError, match="same network"):
        space.rows(rows[:, :5])
    with pytest.raises(InputError, match="shrinkage is 2"):
        whitened_space(rows, labels, rows, shrinkage=2)
    with pytest.raises(InputError, match="one length"):
        whitened_space(rows, labels, rows[:, :3])


def test_several_widths_are_as_if_asked_one_by_one():
    rows, labels = classes()
    both = whitened_spaces(rows, labels, rows, (3, 7))
    for space, width in zip(both, (3, 7), strict=True):
        (alone,) = whitened_spaces(rows, labels, rows, (width,))
        left, right = space.rows(rows), alone.rows(rows)
        np.testing.assert_allclose(left @ left.T, right @ right.T, atol=1e-5)


def test_many_rows_are_converted_in_pieces_with_the_same_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(300) % 3
    known = (draw.normal(size=(300, 12)) + labels[:, None]).astype(np.float32)
    novel = draw.normal(size=(211, 12)).astype(np.float32)
    whole = whitened_spaces(known, labels, novel, [4, 8])
    plain = principal_space(novel, width=5)
    monkeypatch.setattr(whitening, "WHOLE", 1000)
    monkeypatch.setattr(whitening, "PIECE_ROWS", 64)
    pieces = whitened_spaces(known, labels, novel, [4, 8])
    for space, other in zip(
        [*whole, plain], [*pieces, principal_space(novel, width=5)], strict=True
    ):
        np.testing.assert_allclose(space.mean, other.mean, atol=1e-14)
        np.testing.assert_allclose(space.projection, other.projection, atol=1e-10)


def test_rows_in_one_piece_give_the_bits_of_the_formula():
    rows = np.random.default_rng(0).normal(size=(1500, 10)).astype(np.float32)
    rooted = np.sign(rows.astype(np.float64)) * np.sqrt(np.abs(rows.astype(np.float64)))
    gaps = rooted - rooted.mean(axis=0)
    _, axes = eigh(gaps.T @ gaps, subset_by_index=(7, 9))
    axes = axes[:, ::-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(3)])
    space = principal_space(rows, width=3, root=True)
    np.testing.assert_array_equal(space.mean, rooted.mean(axis=0))
    np.testing.assert_array_equal(space.projection, axes)
