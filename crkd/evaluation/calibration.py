"""Confidence calibration: one temperature, fitted on held-out images of the known classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LIMITS: Final = (0.02, 50.0)
"""Range of the searched temperatures; an optimum at either end counts as none."""

Logits = NDArray[np.floating[Any]]
MIN_IMAGES: Final = 50
"""With fewer images the fit is unreliable: even the accuracy has an error of 7 points."""


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature and its effect on the images on which it was fitted.

    Attributes:
        temperature: divides the logits before the softmax, above 0.
        num_images: validation images of known classes.
        nll_before, nll_after: mean negative log-likelihood in nats, at temperature 1 and fitted.
        ece_before, ece_after: expected calibration error in [0, 1], likewise.
    """

    temperature: float
    num_images: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float


def probabilities(logits: Logits, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the softmax of ``logits / temperature`` over the last axis, in float64."""
    if logits.shape[-1] == 0:
        return np.zeros(logits.shape)
    # scipy is slow to import, and training does not need it.
    from scipy.special import softmax

    shares: NDArray[np.float64] = softmax(logits.astype(np.float64) / temperature, axis=-1)
    return shares


def calibrate(logits: Logits, labels: NDArray[np.int64]) -> Calibration | None:
    """Fit one temperature to the negative log-likelihood of labeled images.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2. The
    loss is convex in the inverse of the temperature, so a bounded one-dimensional search finds it.

    Args:
        logits: ``(N, C)`` over all classes, N at least 1.
        labels: ``(N,)`` in ``[0, C)``.

    Returns:
        The fit, or None if the images do not determine a temperature: there are fewer than
        ``MIN_IMAGES``, all of them are classified correctly (any sharper softmax would be better),
        or the logits are not informative.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    exact = logits.astype(np.float64)
    if len(labels) < MIN_IMAGES or (exact.argmax(axis=1) == labels).all():
        return None

    def loss(log_temperature: float) -> float:
        scores = log_softmax(exact / math.exp(log_temperature), axis=1)
        return float(-scores[np.arange(len(labels)), labels].mean())

    low, high = (math.log(limit) for limit in LIMITS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    if min(found.x - low, high - found.x) < 0.01 or found.fun > loss(0.0):
        return None
    temperature = math.exp(found.x)
    return Calibration(
        temperature=temperature,
        num_images=len(labels),
        nll_before=loss(0.0),
        nll_after=float(found.fun),
        ece_before=_error_of(exact, labels, 1.0),
        ece_after=_error_of(exact, labels, temperature),
    )


def expected_calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], *, num_bins: int = 15
) -> float:
    """Return the mean difference of confidence and accuracy over bins of equal width.

    Guo et al., ICML 2017, equation 3: each bin ``(i / n, (i + 1) / n]`` is weighted by its images.

    Args:
        confidence: ``(N,)`` in [0, 1], N at least 1.
        correct: ``(N,)`` whether each prediction is right.
        num_bins: n.

    >>> float(expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False])))
    0.4
    """
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, confidence - correct, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def _error_of(logits: Logits, labels: NDArray[np.int64], temperature: float) -> float:
    shares = probabilities(logits, temperature)
    return expected_calibration_error(shares.max(axis=1), shares.argmax(axis=1) == labels)
