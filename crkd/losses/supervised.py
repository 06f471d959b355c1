"""Cross-entropy of labeled samples."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from crkd.losses.precision import full

UNLABELED = -1


def cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy over views and labeled rows.

    Args:
        logits: ``(V, B, K)``.
        labels: ``(B,)`` int64 in ``[0, K)``; rows labeled -1 are left out.
        label_smoothing: fraction in ``[0, 1]`` of the target spread evenly over the K classes.

    Returns:
        Scalar; 0, and differentiable, if no row is labeled.
    """
    rows = labels.expand(len(logits), -1).flatten()
    total = F.cross_entropy(
        full(logits).flatten(0, 1),
        rows,
        ignore_index=UNLABELED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    # The count stays on the device, because reading it on the host would synchronize.
    return total / (rows != UNLABELED).sum().clamp(min=1)
