"""Feature queue of past batches, for batches with few samples per class.

A batch with fewer samples than classes cannot fill every class. As in SwAV (Caron et al. 2020,
section 3.2), the assignment is then computed over the batch and the last Q features together,
and the rows of the batch are kept.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd.core.errors import InputError
from crkd.ot.problem import full_precision


class FeatureQueue(nn.Module):
    """The last Q features of each head, in a ring buffer of fixed shape.

    No operation waits for a device. Empty entries have scores of -inf and so have no effect on the
    assignment. It is a module, so its state is saved with the rest of the run.

    Args:
        num_heads: H.
        size: Q, at least 1.
        num_features: D.
        device: device of the features.

    Raises:
        InputError: ``size`` is below 1.
    """

    ring: Tensor
    filled: Tensor
    place: Tensor

    def __init__(
        self,
        num_heads: int,
        size: int,
        num_features: int,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        if size < 1:
            raise InputError(f"the queue's size must be at least 1, got {size}")
        super().__init__()
        ring = torch.zeros(num_heads, size, num_features, device=device, dtype=torch.float32)
        self.register_buffer("ring", ring)
        self.register_buffer("filled", torch.zeros(size, device=device, dtype=torch.bool))
        self.register_buffer("place", torch.zeros((), device=device, dtype=torch.int64))

    @property
    def size(self) -> int:
        """Q, the number of entries."""
        return self.ring.shape[1]

    @torch.no_grad()
    def push(self, features: Tensor) -> None:
        """Store ``(H, B, D)`` in place of the oldest features; of more than Q the last Q stay."""
        features = features.detach()[:, -self.size :].to(self.ring.dtype)
        count = features.shape[1]
        # The next position is on the device, so that a captured step moves it too.
        places = (self.place + torch.arange(count, device=self.ring.device)) % self.size
        self.ring.index_copy_(1, places, features)
        self.filled.index_fill_(0, places, True)
        self.place.copy_((self.place + count) % self.size)

    @torch.no_grad()
    def scores(self, prototypes: Tensor) -> Tensor:
        """Return ``(H, Q, M)`` scores with prototypes ``(H, M, D)``; -inf for empty entries.

        Autocast has no effect.
        """
        with full_precision(self.ring.device):
            scores = self.ring @ prototypes.detach().to(self.ring.dtype).mT
        return scores.masked_fill(~self.filled[None, :, None], -torch.inf)

    def extend(self, scores: Tensor, prototypes: Tensor) -> Tensor:
        """Append the scores of the queue to those of a batch, ``(..., H, N, M)``.

        Returns ``(..., H, N + Q, M)``. The first N rows of their assignment belong to the batch.
        """
        past = self.scores(prototypes).to(scores.dtype)
        return torch.cat([scores, past.expand(*scores.shape[:-2], -1, -1)], dim=-2)
