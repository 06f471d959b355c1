"""Kernel that adds the sums of all chunks and sets the class potentials."""

from __future__ import annotations

import triton.language as tl

from crkd.ot.triton.arithmetic import bounded, finite_shift, sum_of_pairs
from crkd.ot.triton.kernel import kernel


@kernel
def class_potentials(
    sums: tl.tensor,
    tops: tl.tensor,
    shifts: tl.tensor,
    potentials: tl.tensor,
    class_marginal: tl.tensor,
    class_stride: tl.int64,
    m: tl.int32,
    chunks: tl.int32,
    scale: tl.float32,
    power: tl.float32,
    weight: tl.float32,
    FIRST: tl.constexpr,
    PAIRS: tl.constexpr,
    RELAXED: tl.constexpr,
    CHUNK_ROWS: tl.constexpr,
    CHUNK_COLUMNS: tl.constexpr,
) -> None:
    """Set h so that class j has its mass: ``h_j = power * log2(b_j / mass_j)``.

    h is counted from X_j, the largest score of the class. The first step sets X. Sums without
    largest exponents are the masses for the old h. Grid: (problems, blocks of CHUNK_COLUMNS
    classes).

    Args:
        sums: ``(P, chunks, M)``.
        tops: ``(P, chunks, M)``, largest exponents of the sums; not read unless ``PAIRS``.
        shifts: ``(P, M)``, X.
        potentials: ``(P, M)``, h.
        class_marginal: ``(M,)`` or ``(P, M)`` or None for a uniform one.
        class_stride: elements from one problem's class marginal to the next.
        m: classes.
        chunks: programs that shared the rows of a problem.
        scale: log2(e) / epsilon.
        power: power of the class step, 1 unless it is relaxed.
        weight: factor of all masses.
        FIRST: whether this is the first class step, whose exponents are scores.
        PAIRS: whether the sums have largest exponents.
        RELAXED: whether the class step is relaxed.
        CHUNK_ROWS: rows of the tile, at least ``chunks``.
        CHUNK_COLUMNS: columns of the tile.
    """
    problem = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * CHUNK_COLUMNS + tl.arange(0, CHUNK_COLUMNS)
    inside = columns < m
    rows = tl.arange(0, CHUNK_ROWS)
    valid = (rows < chunks)[:, None] & inside[None, :]
    places = (problem * chunks + rows)[:, None] * m + columns[None, :]
    parts = tl.load(sums + places, mask=valid, other=0.0)
    own = problem * m + columns
    if PAIRS:
        largest = tl.load(tops + places, mask=valid, other=float("-inf"))
        if FIRST:
            top, mass = sum_of_pairs(largest, parts, scale)
            shift = finite_shift(top)
            tl.store(shifts + own, shift, mask=inside)
        else:
            top, mass = sum_of_pairs(largest, parts, 1.0)
    else:
        mass = tl.sum(parts, axis=0)
    mass = mass * weight
    if class_marginal is None:
        wanted = tl.full((CHUNK_COLUMNS,), 1.0, tl.float32) / m
    else:
        at = class_marginal + problem * class_stride + columns
        wanted = tl.load(at, mask=inside, other=0.0)
    h = power * (tl.log2(wanted) - tl.log2(mass))
    if PAIRS:
        if not FIRST:
            h -= power * top
        if RELAXED:
            # The power applies to the whole potential, the shift included.
            if not FIRST:
                shift = tl.load(shifts + own, mask=inside, other=0.0)
            h += (1.0 - power) * bounded(shift * scale)
    else:
        h += tl.load(potentials + own, mask=inside, other=0.0)
    h = tl.where((wanted == 0.0) | (mass == 0.0), float("-inf"), h)
    # NaN, also from +inf - inf in the sum, makes the whole problem NaN.
    h = tl.where(mass != mass, mass, h)
    tl.store(potentials + own, h, mask=inside)
