"""Arithmetic that the Triton kernels share.

Exponents are in base 2, and ``scale`` is log2(e) / epsilon. A sum of powers is a pair (largest,
total) and means ``total * 2^(largest * unit)``. The pair (-inf, 0) is zero. Comparisons with NaN
are false, so every selection here keeps a NaN in its exponent or total.
"""

from __future__ import annotations

import triton.language as tl

from crkd.ot.reference import LARGEST
from crkd.ot.triton.kernel import part

_LARGEST = tl.constexpr(LARGEST)


@part
def finite_shift(largest: tl.tensor) -> tl.tensor:
    """Return ``largest``, or 0 where it is -inf, from which nothing can be subtracted."""
    return tl.where(largest == float("-inf"), 0.0, largest)


@part
def bounded(exponent: tl.tensor) -> tl.tensor:
    """Return an exponent that stays finite where scores are huge; NaN stays NaN."""
    low = tl.where(exponent < -_LARGEST, -_LARGEST, exponent)
    return tl.where(low > _LARGEST, _LARGEST, low)


@part
def add_power(
    largest: tl.tensor, total: tl.tensor, exponent: tl.tensor, unit: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """Add ``2^(exponent * unit)`` to the pair (largest, total), by one exponential."""
    larger = exponent > largest
    power = tl.exp2(-tl.abs(exponent - largest) * unit)
    power = tl.where(exponent == float("-inf"), 0.0, power)
    total = tl.where(larger, total * power + 1.0, total + power)
    return tl.where(larger, exponent, largest), total


@part
def sum_of_pairs(
    largest: tl.tensor, total: tl.tensor, unit: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """Sum the pairs of a tile over its rows, in an order that depends only on the tile."""
    top = tl.max(largest, axis=0)
    share = tl.exp2((largest - finite_shift(top)[None, :]) * unit)
    return top, tl.sum(total * share, axis=0)
