"""Backend "cuda": the CUDA kernels in ``crkd/ot/kernels``."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from crkd.ot import operator
from crkd.ot.cuda import launches, plans, solver
from crkd.ot.problem import BACKENDS, Backend, Problem, Unavailable


def _obstacles(problem: Problem) -> list[str]:
    scores = problem.scores
    reasons = list(_of_machine(scores.device.index if scores.is_cuda else None))
    if not scores.is_cuda:
        reasons.append(f"the scores are on {scores.device}, not on a CUDA device")
    if scores.dtype not in launches.TYPES:
        reasons.append(
            f"the kernels read and write float32, bfloat16 and float16, not {scores.dtype}"
        )
    if problem.group is not None:
        reasons.append("the kernels cannot sum over a process group")
    if scores.shape[2] > plans.LARGEST_M:
        reasons.append(f"the kernels take at most {plans.LARGEST_M} classes, got {scores.shape[2]}")
    if not reasons and not traced(scores):
        try:
            solver.prepare(solver.kind_of(problem))
        except Unavailable as error:
            reasons.append(str(error))
    return reasons


def traced(scores: Tensor) -> bool:
    """Return whether to use the operator, which makes the work visible to tracers.

    The dispatcher costs as much as the launch, so plain tensors in eager mode do not use it.
    """
    return torch.compiler.is_compiling() or type(scores) is not Tensor


@functools.cache
def _lacks(index: int | None) -> tuple[str, ...]:
    """Return what the machine, its packages and CUDA device ``index`` lack."""
    reasons = []
    if torch.version.cuda is None:
        reasons.append("this PyTorch is built without CUDA")
    for package in ("cuda.core", "cuda.bindings"):
        try:
            found = importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            reasons.append(f"{package} is not installed (pip install 'crkd[cuda]')")
    if index is not None and launches.device(index).architecture < 80:
        reasons.append("the kernels need compute capability 8.0 or later")
    return tuple(reasons)


def _of_machine_untraced(index: int | None) -> tuple[str, ...]:
    return _lacks(index)


# torch.compile uses the result as a constant, instead of tracing the search for packages.
_compiler: Any = torch.compiler
_of_machine: Callable[[int | None], tuple[str, ...]] = _compiler.assume_constant_result(
    _of_machine_untraced
)


def _solve(problem: Problem) -> Tensor:
    if traced(problem.scores):
        return operator.sinkhorn(problem, "cuda")
    return solver.solve(problem)


def _bind(problem: Problem) -> Callable[[Tensor], Tensor] | None:
    scores = problem.scores
    if (
        type(scores) is not Tensor
        or scores.stride(2) != 1
        or scores.numel() == 0
        or problem.class_marginal is not None
        or problem.sample_marginal is not None
    ):
        return None
    call = solver.call_of(problem.epsilon, problem.num_iters, relaxation=problem.relaxation)
    return solver.bind(solver.kind_of(problem), call)


BACKENDS.register("cuda")(Backend(_obstacles, _solve, _bind))
