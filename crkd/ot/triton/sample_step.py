"""Kernel of the sample step alone: row potentials, or the assignment."""

from __future__ import annotations

import triton.language as tl

from crkd.ot.triton.arithmetic import finite_shift
from crkd.ot.triton.kernel import kernel, part


@part
def _exponents(
    row: tl.tensor,
    shifts: tl.tensor,
    potentials: tl.tensor,
    columns: tl.tensor,
    used: tl.tensor,
    m: tl.tensor,
    scale: tl.tensor,
) -> tl.tensor:
    """Return the exponents of a tile, -inf outside of the problem."""
    inside = columns < m
    shift = tl.load(shifts + columns, mask=inside, other=0.0)
    h = tl.load(potentials + columns, mask=inside, other=float("-inf"))
    x = tl.load(
        row[:, None] + columns[None, :],
        mask=used[:, None] & inside[None, :],
        other=float("-inf"),
    ).to(tl.float32)
    return (x - shift[None, :]) * scale + h[None, :]


@part
def _merge(
    largest: tl.tensor, total: tl.tensor, exponents: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """Add the powers of each row of a tile to a pair of that row."""
    top = tl.maximum(largest, tl.max(exponents, axis=1))
    shift = finite_shift(top)
    powers = tl.exp2(exponents - shift[:, None])
    return top, total * tl.exp2(largest - shift) + tl.sum(powers, axis=1)


@part
def _write(
    to: tl.tensor,
    class_marginal: tl.tensor,
    columns: tl.tensor,
    used: tl.tensor,
    m: tl.tensor,
    exponents: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
) -> None:
    """Write a tile of the assignment; a row without any power gets the class marginal."""
    inside = columns < m
    result = tl.exp2(exponents - finite_shift(top)[:, None]) / total[:, None]
    if class_marginal is None:
        wanted = tl.full(columns.shape, 1.0, tl.float32) / m
    else:
        wanted = tl.load(class_marginal + columns, mask=inside, other=0.0)
    result = tl.where((total == 0.0)[:, None], wanted[None, :], result)
    tl.store(
        to[:, None] + columns[None, :],
        result.to(to.dtype.element_ty),
        mask=used[:, None] & inside[None, :],
    )


@kernel
def sample_step(
    scores: tl.tensor,
    shifts: tl.tensor,
    potentials: tl.tensor,
    class_marginal: tl.tensor,
    sample_marginal: tl.tensor,
    result: tl.tensor,
    problem_stride: tl.int64,
    row_stride: tl.int64,
    class_stride: tl.int64,
    sample_stride: tl.int64,
    n: tl.int32,
    m: tl.int32,
    row_blocks: tl.int32,
    scale: tl.float32,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Sum ``2^((x_ij - X_j) * scale + h_j)`` over the classes of each sample.

    The last step writes the assignment, other steps ``f_i = log2(a_i) - log2(sum)``. Grid:
    (problems * blocks of ROWS samples,).

    Args:
        scores: ``(P, N, M)``, contiguous rows.
        shifts: ``(P, M)``, X.
        potentials: ``(P, M)``, h.
        class_marginal: ``(M,)`` or ``(P, M)`` or None for a uniform one.
        sample_marginal: ``(N,)`` or ``(P, N)``, or None for weights of one.
        result: ``(P, N, M)``, the assignment, or ``(P, N)``, f.
        problem_stride: elements from one problem's scores to the next.
        row_stride: elements from one row to the next.
        class_stride: elements from one problem's class marginal to the next.
        sample_stride: elements from one problem's sample marginal to the next.
        n: samples.
        m: classes.
        row_blocks: blocks of samples of a problem.
        scale: log2(e) / epsilon.
        LAST: whether to write the assignment.
        WIDE: whether a row needs several tiles.
        ROWS: rows of a tile.
        COLUMNS: columns of a tile.
    """
    problem = (tl.program_id(0) // row_blocks).to(tl.int64)
    rows = (tl.program_id(0) % row_blocks) * ROWS + tl.arange(0, ROWS)
    used = rows < n
    row = scores + problem * problem_stride + rows.to(tl.int64) * row_stride
    my_shifts = shifts + problem * m
    my_potentials = potentials + problem * m
    largest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    columns = tl.arange(0, COLUMNS)
    if WIDE:
        for start in range(0, m, COLUMNS):
            y = _exponents(row, my_shifts, my_potentials, start + columns, used, m, scale)
            largest, total = _merge(largest, total, y)
    else:
        y = _exponents(row, my_shifts, my_potentials, columns, used, m, scale)
        largest, total = _merge(largest, total, y)
    if LAST:
        to = result + (problem * n + rows) * m
        wanted = class_marginal
        if class_marginal is not None:
            wanted = class_marginal + problem * class_stride
        if WIDE:
            for start in range(0, m, COLUMNS):
                y = _exponents(row, my_shifts, my_potentials, start + columns, used, m, scale)
                _write(to, wanted, start + columns, used, m, y, largest, total)
        else:
            _write(to, wanted, columns, used, m, y, largest, total)
    else:
        f = -finite_shift(largest) - tl.log2(total)
        if sample_marginal is not None:
            at = sample_marginal + problem * sample_stride + rows
            f += tl.log2(tl.load(at, mask=used, other=0.0))
        f = tl.where(total == 0.0, float("-inf"), f)
        tl.store(result + problem * n + rows, f, mask=used)
