"""Joint targets over known and novel classes for labeled and unlabeled samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def joint_targets(
    labels: Tensor, pseudo: Tensor, num_known: int, *, all_classes: bool = False
) -> Tensor:
    """Return targets over ``C = K + M`` classes, labeled rows first.

    A labeled sample has a one-hot target among the known classes. An unlabeled sample has its
    pseudo-label among the novel classes and zeros for the known ones (UNO, ICCV 2021, section 3).
    If unlabeled samples may be of known classes, its pseudo-label is over all classes.

    Args:
        labels: ``(L,)`` int64 in ``[0, K)``.
        pseudo: ``(V, H, N, M)``, or ``(V, H, N, C)`` with ``all_classes``; rows sum to 1.
        num_known: K.
        all_classes: whether the pseudo-labels are over all C classes.

    Returns:
        ``(V, H, L + N, C)`` in the dtype of ``pseudo``; L or N may be 0.

    >>> joint_targets(torch.tensor([1]), torch.ones(1, 1, 1, 1), 2).squeeze().tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    unlabeled = pseudo if all_classes else F.pad(pseudo, (num_known, 0))
    views, heads, _, num_classes = unlabeled.shape
    # torch's one_hot reads the largest label on the host; this comparison does not.
    classes = torch.arange(num_classes, device=pseudo.device)
    labeled = (labels.unsqueeze(1) == classes).to(pseudo.dtype)
    return torch.cat([labeled.expand(views, heads, -1, -1), unlabeled], dim=2)
