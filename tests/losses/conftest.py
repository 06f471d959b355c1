from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def numeric_gradient() -> Callable[[Callable[[np.ndarray], float], np.ndarray], np.ndarray]:
    """Central differences of a function of one float64 array."""

    def gradient(value: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
        slopes, step = np.empty_like(at), 1e-5
        for index in np.ndindex(*at.shape):
            up, down = at.copy(), at.copy()
            up[index] += step
            down[index] -= step
            slopes[index] = (value(up) - value(down)) / (2 * step)
        return slopes

    return gradient
