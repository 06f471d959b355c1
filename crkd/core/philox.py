"""Counter-based random words, the same on every device and in every batch.

Philox 4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011, section 3.3). It is a bijection of a 128-bit counter under a 64-bit key, so two
different counters never give the same block of four words. The int64 tensor operations stay
below 2**63, because signed overflow is undefined in compiled C++.
"""

from __future__ import annotations

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: int) -> Tensor:
    """Return the random block of each counter.

    Args:
        counter: four int64 tensors of one broadcastable shape, values in ``[0, 2**32)``.
        seed: the key; only its lowest 64 bits are used.

    Returns:
        int64 of shape ``(4, *shape)``, independent uniform words in ``[0, 2**32)``.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(_ROUNDS):
        high0, low0 = _wide_product(c0, _MULTIPLIERS[0])
        high1, low1 = _wide_product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = (high1 ^ c1) ^ k0, low1, (high0 ^ c3) ^ k1, low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & MASK, (k1 + _KEY_STEPS[1]) & MASK
    # Every word depends on all four counters, so all four get the broadcast shape.
    return torch.stack((c0, c1, c2, c3))


def _wide_product(word: Tensor, odd: int) -> tuple[Tensor, Tensor]:
    """Return the upper and the lower 32 bits of ``word * odd`` within the range of int64.

    With ``odd = 2 m + 1`` the product is ``2 (word m) + word``, and ``word m`` is below 2**63.
    """
    half = word * (odd >> 1)
    high = (half + (word >> 1)) >> 31
    low = (((half & 0x7FFFFFFF) << 1) + word) & MASK
    return high, low
