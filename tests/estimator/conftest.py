"""Estimators that were fitted on clouds far apart, for all tests of their classes."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import make_blobs

from crkd import NovelClassDiscovery


class Clouds(NamedTuple):
    """Seven clouds: 0 to 2 are known, 3 and 4 unlabeled in the fit, 5 and 6 come later."""

    X: NDArray[np.float64]
    truth: NDArray[np.int64]

    @property
    def first(self) -> NDArray[np.bool_]:
        return self.truth < 5

    def labels(self) -> NDArray[np.int64]:
        """Return the labels of the samples of the fit."""
        return np.where(self.truth < 3, self.truth, -1)[self.first]

    def text(self) -> NDArray[np.object_]:
        """Return the same labels as text."""
        names = np.array(["ant", "bee", "cat", -1], dtype=object)
        return names[self.labels()]


@pytest.fixture(scope="session")
def clouds() -> Clouds:
    X, truth = make_blobs(420, 12, centers=7, random_state=0)
    return Clouds(X, truth)


@pytest.fixture(scope="session")
def _fitted(clouds: Clouds) -> NovelClassDiscovery:
    model = NovelClassDiscovery(2, method="whitened_kmeans", random_state=0)
    return model.fit(clouds.X[clouds.first], clouds.labels())


@pytest.fixture(scope="session")
def _updated(_fitted: NovelClassDiscovery, clouds: Clouds) -> NovelClassDiscovery:
    return copy.deepcopy(_fitted).update(clouds.X[~clouds.first], 2)


@pytest.fixture
def fitted(_fitted: NovelClassDiscovery) -> NovelClassDiscovery:
    """An estimator that knows classes 0 to 2 and found 3 and 4."""
    return copy.deepcopy(_fitted)


@pytest.fixture
def updated(_updated: NovelClassDiscovery) -> NovelClassDiscovery:
    """The same after an update that found 5 and 6."""
    return copy.deepcopy(_updated)
