"""Rows of a discovery in their spaces, and when their neighbors are searched."""

from __future__ import annotations

import numpy as np
import pytest

from crkd.clustering.neighbors import nearest_neighbors
from crkd.stages.vectors import discovery_input
from crkd.stages.vectors.candidates import METHODS
from crkd.stages.vectors.discovery_input import REFINING_SHARE, DiscoveryInput, num_neighbors
from crkd.stages.vectors.spaces import discovery_spaces
from tests.support.short_heads import short_heads
from tests.support.vector_clouds import KNOWN, NOVEL, clouds


def inputs() -> DiscoveryInput:
    rows, classes = clouds(1)
    known = classes < KNOWN
    spaces = discovery_spaces(rows[known], classes[known], rows[~known])
    return DiscoveryInput(rows[~known], NOVEL, spaces[0], spaces[1], 4)


def test_neighbors_are_the_nearest_rows_in_the_space() -> None:
    given = inputs()
    count = len(given.novel)
    fine = num_neighbors(count, NOVEL, REFINING_SHARE)
    for rows, size in ((given.plain, 6), (given.whitened, 6), (given.wide, fine)):
        expected = nearest_neighbors(rows.values, size, seed=4)
        np.testing.assert_array_equal(rows.neighbors, expected)
        np.testing.assert_array_equal(rows.tensors()[1].numpy(), expected)
    assert fine < 6


def test_no_neighbors_are_searched_for_kmeans(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(values: np.ndarray, count: int, *, seed: int) -> np.ndarray:
        sizes.append(len(values))
        return nearest_neighbors(values, count, seed=seed)

    monkeypatch.setattr(discovery_input, "nearest_neighbors", counted)
    with short_heads():
        for name, searches in (("kmeans", 0), ("whitened_kmeans", 0), ("merging", 1)):
            METHODS[name](inputs(), 0)
            assert len(sizes) == searches, name
        # Of its three methods and the last head, the spaces of the heads alone need neighbors.
        METHODS["consensus"](inputs(), 0)
        assert len(sizes) == 1 + 2
