"""Sinkhorn with one exponential per entry, for the CPU.

A softmax is the fastest exponential of PyTorch. It divides by sums, which the first factors of the
samples undo. Each iteration is then two products of a vector and a matrix in the cache; for small
problems and few iterations, the plan itself is divided by its sums (:mod:`crkd.ot.plain`).

If all scores are near zero, as cosines are, no number can leave the range of the dtype. Otherwise
the best score of each class is subtracted, which the first class step absorbs, and every sum is
checked. Problems that fail are solved by :mod:`crkd.ot.reference`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.ot import plain, reference
from crkd.ot.problem import Problem, has_values
from crkd.ot.product_threads import limited_to, threads_for_products
from crkd.ot.scratch import Scratch, together

NEAR = {torch.float32: 22.0, torch.float64: 200.0}
"""Largest absolute score over epsilon that needs no checks, see :func:`_near`."""

LOWEST = {torch.float32: -75.0, torch.float64: -690.0}
"""Logarithm to which lower ones are raised. Subnormal numbers would slow a CPU down several times,
also after the division by row sums."""

SAFE = {torch.float32: 1e-24, torch.float64: 1e-280}
"""Smallest row or column sum, relative to its largest factor, that no raised entry can change."""


def applies(problem: Problem) -> bool:
    """Return whether :func:`solve` accepts ``problem``: host memory, one process, exact classes."""
    return (
        problem.scores.device.type == "cpu"
        and problem.relaxation is None
        and problem.group is None
        and has_values(problem.scores)
    )


def solve(problem: Problem) -> Tensor:
    """Return the assignment ``(P, N, M)`` in the dtype of the scores, for scores in host memory.

    The bits of a problem's result do not depend on the other problems.
    """
    scores = problem.scores
    p, n, m = scores.shape
    out = torch.empty_like(scores, memory_format=torch.contiguous_format)
    if 0 in (p, n, m):
        return out
    count = together(n, m)
    if p <= count:
        _solve_part(out, problem)
        return out
    for start in range(0, p, count):
        part = slice(start, start + count)
        _solve_part(out[part], _part(problem, part))
    return out


def _solve_part(out: Tensor, problem: Problem) -> None:
    """Write assignments into ``out``, for problems that fit the cache."""
    near = _near(problem)
    small = plain.suits(problem)
    if near is None and small:
        plain.solve_into(out, problem)
        return
    for unsafe in _scale_into(out, problem, near):
        out[unsafe] = reference.solve(_part(problem, slice(unsafe, unsafe + 1)))[0]
    if near is not None and small:
        # The form must not depend on the other problems.
        for p in near.nonzero().flatten().tolist():
            plain.solve_into(out[p : p + 1], _part(problem, slice(p, p + 1)))


def _part(problem: Problem, part: slice) -> Problem:
    """Return some of the problems."""
    b, a = (
        marginal if marginal is None or marginal.ndim == 1 else marginal[part]
        for marginal in (problem.class_marginal, problem.sample_marginal)
    )
    return problem._replace(scores=problem.scores[part], class_marginal=b, sample_marginal=a)


def _scale_into(out: Tensor, problem: Problem, near: Tensor | None) -> list[int]:
    """Write assignments into ``out``; return the problems for which scaling was not safe.

    Args:
        out: ``(P, N, M)``.
        problem: problems that fit the cache.
        near: what :func:`_near` returns for them.
    """
    p, n, m = out.shape
    scratch = Scratch.of_problems(p, n, m, problem.compute_dtype)
    threads = threads_for_products(scratch)
    a, b = _marginals(problem, scratch)
    _exponentiate(problem, scratch, near)
    margins = []
    with limited_to(threads):
        for i in range(problem.num_iters):
            if i:
                torch.div(a, scratch.rows, out=scratch.u)
            scratch.sum_columns()
            torch.div(b, scratch.columns, out=scratch.v)
            scratch.sum_rows()
            if near is not None:
                margins += [
                    scratch.columns.amin(-1) / scratch.u.amax(-1),
                    scratch.rows.amin(-1) / scratch.v.amax(-1),
                ]
    scratch.classes.mul_(scratch.v_of_classes)
    # Products take less time than quotients.
    torch.mul(scratch.classes, scratch.per_sample.reciprocal_(), out=out)
    if near is None:
        return []
    safe = near | (torch.cat(margins, -1) > SAFE[a.dtype]).all(-1)
    return (~safe).nonzero().flatten().tolist()


def _marginals(problem: Problem, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """Return a as ``(P or 1, 1, N or 1)`` and b as ``(P or 1, 1, W)``."""
    a, b = problem.sample_marginal, problem.class_marginal
    wide_a, wide_b = scratch.equal_samples, scratch.equal_classes
    if a is not None:
        wide_a = a.to(wide_a.dtype).reshape(-1, 1, a.shape[-1])
    if b is not None:
        wide_b = wide_b.new_zeros(1 if b.ndim == 1 else len(b), 1, wide_b.shape[2])
        wide_b[:, 0, : b.shape[-1]] = b
    return wide_a, wide_b


def _near(problem: Problem) -> Tensor | None:
    """Return ``(P,)`` bool, True for problems that need no checks; None if none needs any.

    With uniform samples and scores over epsilon within d of zero, the factors of a solution, for
    exponentials that are not divided by row sums, are within exp(-d) and exp(d) if scaled so. They
    differ from the start by d at most in logarithms. An iteration is monotone and homogeneous, so
    it does not increase this distance (Lemmens and Nussbaum 2012). Factors of samples hence stay
    within exp(-2 d) and exp(2 d), and all sums of a class within N exp(-3 d) and N exp(3 d).
    """
    x = problem.scores
    if problem.sample_marginal is not None:
        return x.new_zeros(len(x), dtype=torch.bool)
    bound = NEAR[problem.compute_dtype] * problem.epsilon
    if float(x.amax()) <= bound and float(x.amin()) >= -bound:
        return None
    # float16 cannot hold every bound.
    highest, lowest = (end((1, 2)).to(problem.compute_dtype) for end in (x.amax, x.amin))
    return (highest <= bound) & (lowest >= -bound)


def _exponentiate(problem: Problem, scratch: Scratch, near: Tensor | None) -> None:
    """Set the kernel to exponentials divided by row sums, and u to what undoes the division."""
    x = problem.scores.to(scratch.kernel.dtype)
    scratch.rest.zero_()
    if near is None:
        torch.mul(x, 1 / problem.epsilon, out=scratch.classes)
    else:
        best = x.amax(-2, keepdim=True).masked_fill_(near[:, None, None], 0.0)
        torch.sub(x, best, out=scratch.classes)
        scratch.kernel.mul_(1 / problem.epsilon).clamp_(min=LOWEST[x.dtype])
    torch.softmax(scratch.groups, -1, out=scratch.groups)
    torch.reciprocal(scratch.padding, out=scratch.u)
    if problem.sample_marginal is not None:
        # Samples of weight 0 take no part in the first class step.
        scratch.u.mul_(problem.sample_marginal.reshape(-1, 1, x.shape[1]) > 0)
