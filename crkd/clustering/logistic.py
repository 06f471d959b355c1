"""Logistic regression on rows of vectors, to the minimum of its convex loss."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.kmeans import Floats

ITERATIONS = 60


def logistic_regression(
    rows: Floats, labels: NDArray[np.int64], num_classes: int
) -> tuple[Floats, Floats]:
    """Return weights ``(k, C)`` and biases ``(C,)`` of a multinomial logistic regression.

    The loss is the mean cross-entropy, every class of equal weight, plus |W|^2 / (2 N): the
    strength of the penalty that scikit-learn calls C = 1. L-BFGS starts at zero, so that nothing
    is random. A class without rows is never predicted.

    Args:
        rows: ``(N, k)``.
        labels: ``(N,)`` in ``[0, num_classes)``.
        num_classes: C.
    """
    inputs, targets = torch.from_numpy(rows), torch.from_numpy(labels)
    counts = torch.bincount(targets, minlength=num_classes)
    present = counts > 0
    shares = torch.where(present, 1 / (counts.clamp(min=1) * present.sum()), 0.0)
    shares = shares[targets].to(inputs.dtype)
    # Classes of equal weight, but rows of one class are one term: no class is lost in the mean.
    weights = torch.zeros(rows.shape[1], num_classes, requires_grad=True)
    biases = torch.where(present, 0.0, -1e4).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights, biases], max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = inputs @ weights + biases
        fit = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        value = shares @ fit + weights.square().sum() / (2 * len(rows))
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach().numpy(), biases.detach().numpy()
