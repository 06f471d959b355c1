"""Kernel of a sample step and the sums of the next class step, by one reading of the scores."""

from __future__ import annotations

import triton.language as tl

from crkd.ot.triton.arithmetic import add_power, finite_shift, sum_of_pairs
from crkd.ot.triton.kernel import kernel


@kernel
def iteration(
    scores: tl.tensor,
    shifts: tl.tensor,
    potentials: tl.tensor,
    sample_marginal: tl.tensor,
    sums: tl.tensor,
    tops: tl.tensor,
    problem_stride: tl.int64,
    row_stride: tl.int64,
    sample_stride: tl.int64,
    n: tl.int32,
    m: tl.int32,
    chunks: tl.int32,
    rows_per_chunk: tl.int32,
    scale: tl.float32,
    RELAXED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Scale each row of a chunk to its weight and sum over the rows; a tile holds whole rows.

    An exact step sums ``a_i softmax_j((x_ij - X_j) * scale + h_j)``, the masses for the old h: by
    the bound in docs/sinkhorn.md a class keeps at least ``b_j min a`` of its mass. In a relaxed
    step masses may vanish, so powers without h are summed as pairs. Grid: (problems * chunks,).

    Args:
        scores: ``(P, N, M)``, contiguous rows.
        shifts: ``(P, M)``, X.
        potentials: ``(P, M)``, h.
        sample_marginal: ``(N,)`` or ``(P, N)``, or None for weights of one.
        sums: ``(P, chunks, M)``, receives the totals.
        tops: ``(P, chunks, M)``, receives the largest exponents of a relaxed step.
        problem_stride: elements from one problem's scores to the next.
        row_stride: elements from one row to the next.
        sample_stride: elements from one problem's sample marginal to the next.
        n: samples.
        m: classes.
        chunks: programs that share the rows of a problem.
        rows_per_chunk: rows of a program.
        scale: log2(e) / epsilon.
        RELAXED: whether the class step is relaxed.
        ROWS: rows of a tile.
        COLUMNS: columns of a tile, at least ``m``.
    """
    chunk = tl.program_id(0) % chunks
    problem = (tl.program_id(0) // chunks).to(tl.int64)
    columns = tl.arange(0, COLUMNS)
    inside = columns < m
    shift = tl.load(shifts + problem * m + columns, mask=inside, other=0.0)
    h = tl.load(potentials + problem * m + columns, mask=inside, other=float("-inf"))
    largest = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    first = chunk * rows_per_chunk
    end = tl.minimum(first + rows_per_chunk, n)
    for start in range(first, end, ROWS):
        rows = start + tl.arange(0, ROWS)
        used = rows < end
        places = problem * problem_stride + rows.to(tl.int64)[:, None] * row_stride
        x = tl.load(
            scores + places + columns[None, :],
            mask=used[:, None] & inside[None, :],
            other=float("-inf"),
        ).to(tl.float32)
        y = (x - shift[None, :]) * scale
        exponents = y + h[None, :]
        top = finite_shift(tl.max(exponents, axis=1))
        powers = tl.exp2(exponents - top[:, None])
        row_sum = tl.sum(powers, axis=1)
        if sample_marginal is None:
            a = tl.where(used, 1.0, 0.0)
        else:
            a = tl.load(sample_marginal + problem * sample_stride + rows, mask=used, other=0.0)
        if RELAXED:
            f = tl.log2(a) - top - tl.log2(row_sum)
            f = tl.where((row_sum == 0.0) | (a == 0.0), float("-inf"), f)
            largest, total = add_power(largest, total, y + f[:, None], 1.0)
        else:
            factor = tl.where(row_sum == 0.0, 0.0, a / row_sum)
            total += powers * factor[:, None]
    to = (problem * chunks + chunk) * m + columns
    if RELAXED:
        top, mass = sum_of_pairs(largest, total, 1.0)
        tl.store(tops + to, top, mask=inside)
    else:
        mass = tl.sum(total, axis=0)
    tl.store(sums + to, mass, mask=inside)
