"""Gaussian classes with known results."""

from __future__ import annotations

import numpy as np

DIMENSIONS = 16


def gaussians(means, each, seed):
    draw = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(means)), each)
    noise = draw.standard_normal((len(truth), DIMENSIONS)) * np.linspace(0.3, 1.5, DIMENSIONS)
    return (means[truth] + noise).astype(np.float32), truth


def means(count, seed, scale=3.0):
    return scale * np.random.default_rng(seed).standard_normal((count, DIMENSIONS))
