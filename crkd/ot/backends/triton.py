"""Backend "triton": the Triton kernels in ``crkd/ot/triton``."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from crkd.ot import operator
from crkd.ot.backends.cuda import traced
from crkd.ot.problem import BACKENDS, Backend, Problem, Unavailable
from crkd.ot.triton import solver


def _obstacles(problem: Problem) -> list[str]:
    scores = problem.scores
    reasons = list(_of_machine())
    if not scores.is_cuda:
        reasons.append(f"the scores are on {scores.device}, not on a CUDA device")
    if scores.dtype not in solver.TYPES:
        reasons.append(
            f"the Triton kernels read and write float32, bfloat16 and float16, not {scores.dtype}"
        )
    if problem.group is not None:
        reasons.append("the Triton kernels cannot sum over a process group")
    if not reasons and scores.numel() > 0 and not traced(scores):
        try:
            solver.prepare(solver.kind_of(problem))
        except Unavailable as error:
            reasons.append(str(error))
    return reasons


@functools.cache
def _lacks() -> tuple[str, ...]:
    """Return what the packages of this machine lack."""
    if importlib.util.find_spec("triton") is None:
        return ("triton is not installed (pip install triton; PyTorch for CUDA brings it)",)
    return ()


def _of_machine_untraced() -> tuple[str, ...]:
    return _lacks()


# torch.compile uses the result as a constant, instead of tracing the search for packages.
_compiler: Any = torch.compiler
_of_machine: Callable[[], tuple[str, ...]] = _compiler.assume_constant_result(_of_machine_untraced)


def _solve(problem: Problem) -> Tensor:
    if traced(problem.scores):
        return operator.sinkhorn(problem, "triton")
    return solver.solve(problem)


def _bind(problem: Problem) -> Callable[[Tensor], Tensor] | None:
    scores = problem.scores
    if (
        traced(scores)
        or scores.numel() == 0
        or problem.class_marginal is not None
        or problem.sample_marginal is not None
    ):
        return None
    return solver.bind(problem)


BACKENDS.register("triton")(Backend(_obstacles, _solve, _bind))
