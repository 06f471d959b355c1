"""Sinkhorn by plain scaling, one problem after the other, for the CPU.

The maximum of every column is subtracted, which the first column step absorbs exactly. One
exponential per entry is then enough: each iteration is two matrix-vector products with a matrix in
the cache. The result is checked for values out of the range of the dtype. Problems that fail are
solved by :mod:`crkd.ot.reference`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.ot import reference
from crkd.ot.problem import Problem, has_values

CACHED = 1 << 17
"""Number of entries processed at once; with their copies they fit a core's cache."""

LOWEST = {torch.float32: -80.0, torch.float64: -690.0}
"""Logarithm below which entries are set to zero."""

SAFE = {torch.float32: 1e-24, torch.float64: 1e-280}
"""Smallest row or column sum, relative to its largest factor, that no zeroed entry can change."""


def applies(problem: Problem) -> bool:
    """Return whether :func:`solve` accepts ``problem``: host memory, one process, exact classes."""
    return (
        problem.scores.device.type == "cpu"
        and problem.relaxation is None
        and problem.group is None
        and has_values(problem.scores)
    )


def solve(problem: Problem) -> Tensor:
    """Return the assignment ``(P, N, M)`` in the dtype of the scores, for scores in host memory."""
    scores = problem.scores
    out = torch.empty(scores.shape, dtype=scores.dtype)
    together = max(1, CACHED // max(1, scores[0].numel()))
    for start in range(0, len(scores), together):
        part = slice(start, start + together)
        some = problem._replace(
            scores=scores[part],
            class_marginal=_of_problems(problem.class_marginal, part),
            sample_marginal=_of_problems(problem.sample_marginal, part),
        )
        safe = _solve_into(out[part], some)
        for p in (~safe).nonzero().flatten().tolist():
            one = slice(p, p + 1)
            out[start + p] = reference.solve(
                some._replace(
                    scores=some.scores[one],
                    class_marginal=_of_problems(some.class_marginal, one),
                    sample_marginal=_of_problems(some.sample_marginal, one),
                )
            )[0]
    return out


def _of_problems(marginal: Tensor | None, part: slice) -> Tensor | None:
    return marginal if marginal is None or marginal.ndim == 1 else marginal[part]


def _solve_into(out: Tensor, problem: Problem) -> Tensor:
    """Write assignments into ``out``; return ``(P,)`` bool, False where scaling was not safe."""
    dtype = problem.compute_dtype
    x = problem.scores.to(dtype)
    _, n, m = x.shape
    a, b = problem.sample_marginal, problem.class_marginal
    # From here on a and u are row vectors (P or 1, 1, N), b and v (P or 1, 1, M), because PyTorch
    # multiplies a row vector by a matrix several times faster than a matrix by a column.
    a = x.new_full((1, 1, 1), 1 / n) if a is None else a.to(dtype).reshape(-1, 1, n)
    b = x.new_full((1, 1, 1), 1 / m) if b is None else b.to(dtype).reshape(-1, 1, m)
    kernel = torch.sub(x, x.amax(-2, keepdim=True)).mul_(1 / problem.epsilon)
    # Subnormal numbers would be exact but make a CPU several times slower.
    kernel.clamp_(min=LOWEST[dtype]).exp_()
    u = (a > 0).to(dtype).expand(len(x), 1, n)
    margins = []
    for _ in range(problem.num_iters):
        columns = u.bmm(kernel)
        v = b / columns
        rows = v.bmm(kernel.mT)
        margins += [columns.amin(-1) / u.amax(-1), rows.amin(-1) / v.amax(-1)]
        u = a / rows
    kernel *= v
    torch.div(kernel, rows.mT, out=out)
    return (torch.cat(margins, -1) > SAFE[dtype]).all(-1)
