"""Swapped prediction loss: each view predicts the assignment of every other view."""

from __future__ import annotations

from torch import Tensor

from crkd.core.errors import InputError
from crkd.losses.precision import full, log_softmax


def swapped_prediction(joint_logits: Tensor, targets: Tensor) -> Tensor:
    """Return the swapped-prediction loss of each head.

    Every large view's targets are predicted from every other view, large or small::

        loss_h = -1 / (V_large (V - 1) B)  sum_{a < V_large} sum_{v != a} sum_b <t_ahb, log p_vhb>

    The double sum over views is computed as the product of two sums minus its diagonal. Source:
    Fini et al., ICCV 2021, eq. 6, with the multi-crop of UNO v2.

    Args:
        joint_logits: ``(V, H, B, C)``, large views first.
        targets: ``(V_large, H, B, C)``, rows sum to 1; no gradient reaches them.

    Returns:
        ``(H,)`` mean over views and samples; 0, and differentiable, if B is 0.

    Raises:
        InputError: fewer than two views, more targets than views, or targets that differ in heads,
            samples or classes.
    """
    num_views, _, num_samples, _ = joint_logits.shape
    num_large = len(targets)
    if num_views < 2 or not 1 <= num_large <= num_views:
        raise InputError(
            f"swapped prediction was given {num_views} views and targets of {num_large}; it needs "
            "two views or more, and targets of at least one of them"
        )
    if targets.shape[1:] != joint_logits.shape[1:]:
        raise InputError(
            f"swapped prediction was given logits {tuple(joint_logits.shape)} and targets "
            f"{tuple(targets.shape)}; all but the number of views must be equal"
        )
    log_p = log_softmax(joint_logits)
    fixed = full(targets.detach())
    pairs = (log_p.sum(dim=0) * fixed.sum(dim=0)).sum(dim=(1, 2))
    own = (log_p[:num_large] * fixed).sum(dim=(0, 2, 3))
    return (own - pairs) / (num_large * (num_views - 1) * max(num_samples, 1))
