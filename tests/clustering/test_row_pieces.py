"""Sums over rows in pieces."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from crkd.clustering import row_pieces
from crkd.clustering.projection_2d import project_2d
from crkd.clustering.row_pieces import added, class_sums, even_places, mean_of, pieces
from crkd.review.compact_features import compact

ROWS = np.random.default_rng(0).normal(size=(500, 9)).astype(np.float32)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_pieces, "WHOLE_ROWS", 100)
    monkeypatch.setattr(row_pieces, "PIECE_ROWS", 64)


@pytest.mark.parametrize("most", [1, 7, 200])
def test_an_even_share_of_any_number_of_rows(most: int) -> None:
    for count in (0, 1, 6, 199, 200, 201, 276, 527, *range(1000, 1100), 99_999):
        places = even_places(count, most)
        assert len(places) == min(count, most)
        gaps = np.diff(places)
        if len(places):
            assert places[0] == 0
            assert places[-1] < count
        if len(gaps):
            assert gaps.min() >= 1
            assert gaps.max() - gaps.min() <= 1


@pytest.mark.usefixtures("small")
def test_pieces_cover_all_rows_once() -> None:
    assert pieces(0) == []
    assert pieces(100) == [slice(0, 100)]
    assert pieces(130) == [slice(0, 64), slice(64, 128), slice(128, 130)]
    parts = [ROWS[part] for part in pieces(500)]
    np.testing.assert_allclose(mean_of(parts), ROWS.mean(axis=0), atol=1e-7)
    assert mean_of(parts).dtype == np.float32
    np.testing.assert_allclose(added(p.T @ p for p in parts), ROWS.T @ ROWS, rtol=1e-5)


def test_one_piece_has_the_bits_of_the_rows() -> None:
    np.testing.assert_array_equal(mean_of([ROWS]), ROWS.mean(axis=0))
    assert added([ROWS]) is ROWS


def test_compact_rows_and_the_plane_are_the_same_in_pieces(
    request: pytest.FixtureRequest,
) -> None:
    classes = np.arange(500) % 3
    order = np.random.default_rng(1).permutation(500)
    whole = compact(ROWS, 4), compact(ROWS, 4, order=order), project_2d(ROWS, classes)
    np.testing.assert_array_equal(whole[1], compact(ROWS[order], 4))
    request.getfixturevalue("small")
    # A value may be rounded to the other side of a half.
    for before, after in zip(
        whole[:2], (compact(ROWS, 4), compact(ROWS, 4, order=order)), strict=True
    ):
        assert np.abs(before.astype(int) - after).max() <= 1
    np.testing.assert_allclose(project_2d(ROWS, classes), whole[2], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2000, 17, 5), (300, 1, 90), (3, 8, 7), (0, 4, 2), (0, 4, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sums_of_classes_have_the_bits_of_sums_row_by_row(
    dtype: type[np.floating[Any]], shape: tuple[int, int, int], order: Literal["C", "F"]
) -> None:
    """Records depend on the bits, so the rows of a class have to be added in their order."""
    count, width, num_classes = shape
    draw = np.random.default_rng(count)
    scales = 10.0 ** draw.integers(-6, 7, (count, 1))
    rows = np.asarray(draw.standard_normal((count, width)) * scales, dtype, order=order)
    rows[draw.random(rows.shape) < 0.1] = -0.0
    classes = draw.integers(0, max(num_classes, 1), count)
    expected = np.zeros((num_classes, width), dtype)
    for row, label in zip(rows, classes, strict=True):
        expected[label] += row
    found = class_sums(rows, classes, num_classes, dtype)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()
