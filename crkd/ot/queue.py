"""Features of past batches, so that a small batch still meets enough samples per class.

A batch with fewer samples than classes cannot fill every class. As in SwAV (Caron et al. 2020,
section 3.2), the assignment is then computed over the batch and the last Q features together,
and the rows of the batch are kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.core.errors import InputError


class FeatureQueue:
    """The last Q features of each head, in a ring of fixed shape.

    Positions are host integers that follow from the batch sizes alone; no operation waits for a
    device. Places that were never filled score -inf and thus weigh nothing in the assignment.

    Args:
        num_heads: H.
        size: Q, at least 1.
        num_features: D.
        device: where the features live.
        dtype: their type.

    Raises:
        InputError: ``size`` is below 1.
    """

    def __init__(
        self,
        num_heads: int,
        size: int,
        num_features: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if size < 1:
            raise InputError(f"the queue's size must be at least 1, got {size}")
        self._ring = torch.zeros(num_heads, size, num_features, device=device, dtype=dtype)
        self._filled = torch.zeros(size, device=device, dtype=torch.bool)
        self._next = 0

    @property
    def size(self) -> int:
        """Q, the number of places."""
        return self._ring.shape[1]

    @torch.no_grad()
    def push(self, features: Tensor) -> None:
        """Store ``(H, B, D)``; the oldest features give way, of more than Q the last Q stay."""
        features = features.detach()[:, -self.size :].to(self._ring.dtype)
        count = features.shape[1]
        before_end = min(count, self.size - self._next)
        for start, part in (
            (self._next, features[:, :before_end]),
            (0, features[:, before_end:]),
        ):
            stop = start + part.shape[1]
            self._ring[:, start:stop] = part
            self._filled[start:stop] = True
        self._next = (self._next + count) % self.size

    @torch.no_grad()
    def scores(self, prototypes: Tensor) -> Tensor:
        """Return ``(H, Q, M)`` scores against prototypes ``(H, M, D)``; -inf where empty."""
        scores = self._ring @ prototypes.detach().to(self._ring.dtype).mT
        return scores.masked_fill(~self._filled[None, :, None], -torch.inf)

    def extend(self, scores: Tensor, prototypes: Tensor) -> Tensor:
        """Append the scores of the queue to those of a batch, ``(..., H, N, M)``.

        Returns ``(..., H, N + Q, M)``. The first N rows of their assignment belong to the batch.
        """
        past = self.scores(prototypes).to(scores.dtype)
        return torch.cat([scores, past.expand(*scores.shape[:-2], -1, -1)], dim=-2)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the ring, which places are filled, and the next place."""
        return {
            "ring": self._ring.clone(),
            "filled": self._filled.clone(),
            "next": torch.tensor(self._next),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the state of a queue of the same shape."""
        self._ring.copy_(state["ring"])
        self._filled.copy_(state["filled"])
        self._next = int(state["next"])
