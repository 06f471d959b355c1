"""Solver function of the Triton kernels: scores on a GPU to their assignment."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from crkd.ot.preparation import prepared
from crkd.ot.problem import Problem
from crkd.ot.triton import plans

if TYPE_CHECKING:
    from crkd.ot.triton.launches import Call

TYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Types of the scores and of the results."""


class Kind(NamedTuple):
    """Properties that determine the machine code of a solve.

    Attributes:
        device: device of the scores.
        plan: tiles; one plan for all with the same machine code.
        scores: type of the scores and of the result.
        relaxed: whether the class step is relaxed.
        classes: whether a class marginal is given.
        samples: whether a sample marginal is given.
    """

    device: torch.device
    plan: plans.Plan
    scores: torch.dtype
    relaxed: bool
    classes: bool
    samples: bool


_ready: dict[Kind, plans.Plan] = {}
_failed: dict[Kind, str] = {}


def solve(problem: Problem) -> Tensor:
    """Return the assignment ``(P, N, M)``, contiguous, for scores on a GPU.

    Raises:
        Unavailable: the kernels cannot be compiled or loaded.
        RuntimeError: a CUDA graph is being captured and these kernels were never run before.
    """
    scores = problem.scores
    if scores.numel() == 0:
        return torch.empty(scores.shape, dtype=scores.dtype, device=scores.device)
    prepare(kind_of(problem))
    with _current(scores.device):
        return _solve_with(plans.plan(*scores.shape[1:]), scores, _call_of(problem))


def bind(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Return a function for scores like those of ``problem``, which was solved before.

    The scores must be on the current device.
    """
    plan, call = plans.plan(*problem.scores.shape[1:]), _call_of(problem)

    def solve_bound(scores: Tensor) -> Tensor:
        return _solve_with(plan, scores, call)

    return solve_bound


def kind_of(problem: Problem) -> Kind:
    """Return the kind of machine code for ``problem``, which must not be empty."""
    scores = problem.scores
    _, n, m = scores.shape
    return Kind(
        scores.device,
        plans.plan(n, m).compiled,
        scores.dtype,
        problem.relaxation is not None,
        problem.class_marginal is not None,
        problem.sample_marginal is not None,
    )


def prepare(kind: Kind) -> None:
    """Compile and load the kernels of ``kind`` at the first call, by a solve of one sample.

    One call is needed before a CUDA graph captures them. A failure is not tried again.

    Raises:
        Unavailable: they cannot be compiled or loaded.
        RuntimeError: a CUDA graph is being captured; loading would end the capture.
    """
    prepared(
        kind,
        _rehearsed,
        ready=_ready,
        failed=_failed,
        kernels="Triton's kernels",
        sizes=f"tiles of {kind.plan.rows} by {kind.plan.columns}",
    )


def _rehearsed(kind: Kind) -> plans.Plan:
    """Launch every kernel of ``kind`` once, on one sample, and return its tiles."""
    m = kind.plan.columns + 1 if kind.plan.wide else 1
    ones = torch.ones(1, 1, m, device=kind.device)
    problem = Problem(
        ones.to(kind.scores),
        1.0,
        2,
        ones[0, 0] if kind.classes else None,
        ones[0, 0, :1] if kind.samples else None,
        1.0 if kind.relaxed else None,
        None,
    )
    with _current(kind.device):
        _solve_with(kind.plan, problem.scores, _call_of(problem))
    return kind.plan


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which ``device`` is the current one; Triton's interpreter needs none."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _call_of(problem: Problem) -> Call:
    from crkd.ot.triton.launches import call_of

    # The kernels read marginals row by row, but expanded or transposed ones have other strides.
    b, a = (
        None if marginal is None else marginal.contiguous()
        for marginal in (problem.class_marginal, problem.sample_marginal)
    )
    return call_of(problem.epsilon, problem.num_iters, b, a, problem.relaxation)


def _solve_with(plan: plans.Plan, scores: Tensor, call: Call) -> Tensor:
    """Enqueue the kernels on the current device and return their result."""
    from crkd.ot.triton.launches import solve_into

    if scores.stride(2) != 1:
        scores = scores.contiguous()
    out = torch.empty(scores.shape, dtype=scores.dtype, device=scores.device)
    solve_into(out, scores, call, plan)
    return out
