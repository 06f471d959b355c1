"""Kernel of the class step in logarithms: powers summed over samples, for a block of classes."""

from __future__ import annotations

import triton.language as tl

from crkd.ot.triton.arithmetic import add_power, sum_of_pairs
from crkd.ot.triton.kernel import kernel


@kernel
def class_sums(
    scores: tl.tensor,
    shifts: tl.tensor,
    row_potentials: tl.tensor,
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
    FIRST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Sum ``2^((x_ij - X_j) * scale + f_i)`` over the samples of a chunk as pairs.

    The first class step has f = 0 and no X, and its exponents are scores: their unit is ``scale``.
    Grid: (problems * chunks, blocks of COLUMNS classes).

    Args:
        scores: ``(P, N, M)``, contiguous rows.
        shifts: ``(P, M)``, X; not read by the first step.
        row_potentials: ``(P, N)``, f; not read by the first step.
        sample_marginal: ``(N,)`` or ``(P, N)`` or None. Samples of weight 0 do not count in the
            first step; f has the weights of later ones.
        sums: ``(P, chunks, M)``, receives the totals.
        tops: ``(P, chunks, M)``, receives the largest exponents.
        problem_stride: elements from one problem's scores to the next.
        row_stride: elements from one row to the next.
        sample_stride: elements from one problem's sample marginal to the next.
        n: samples.
        m: classes.
        chunks: programs that share the rows of a problem.
        rows_per_chunk: rows of a program.
        scale: log2(e) / epsilon.
        FIRST: whether this is the first class step.
        ROWS: rows of a tile.
        COLUMNS: columns of a tile.
    """
    chunk = tl.program_id(0) % chunks
    problem = (tl.program_id(0) // chunks).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < m
    largest = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    unit = scale
    if not FIRST:
        unit = 1.0
        shift = tl.load(shifts + problem * m + columns, mask=inside, other=0.0)
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
        if FIRST:
            exponent = x
            if sample_marginal is not None:
                a = tl.load(sample_marginal + problem * sample_stride + rows, mask=used, other=0.0)
                exponent = x + tl.where(a == 0.0, float("-inf"), 0.0)[:, None]
        else:
            f = tl.load(row_potentials + problem * n + rows, mask=used, other=float("-inf"))
            exponent = (x - shift[None, :]) * scale + f[:, None]
        largest, total = add_power(largest, total, exponent, unit)
    top, mass = sum_of_pairs(largest, total, unit)
    to = (problem * chunks + chunk) * m + columns
    tl.store(sums + to, mass, mask=inside)
    tl.store(tops + to, top, mask=inside)
