"""PyTorch operator ``torch.ops.crkd.sinkhorn`` of all kernels, for ``torch.compile``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crkd.ot import reference
from crkd.ot.cuda import solver as cuda
from crkd.ot.problem import Problem, Unavailable, instead_of_cuda, torch_instead
from crkd.ot.triton import solver as triton

_SCHEMA = (
    "sinkhorn(Tensor scores, float epsilon, int num_iters, Tensor? class_marginal, "
    "Tensor? sample_marginal, float? relaxation, ScalarType storage, "
    'bool strict=False, str backend="cuda") -> Tensor'
)


def _problem(
    scores: Tensor,
    epsilon: float,
    num_iters: int,
    class_marginal: Tensor | None,
    sample_marginal: Tensor | None,
    relaxation: float | None,
    storage: torch.dtype,
    strict: bool = False,
    backend: str = "cuda",
) -> tuple[Problem, str]:
    """Return problem and backend of the operator's arguments, in the order of its schema."""
    problem = Problem(
        scores,
        epsilon,
        num_iters,
        class_marginal,
        sample_marginal,
        relaxation,
        None,
        storage,
        strict,
    )
    return problem, backend


def _on_cuda(*arguments: Any) -> Tensor:
    # Traced code has chosen its backend before anything could be compiled or loaded.
    problem, backend = _problem(*arguments)
    try:
        return triton.solve(problem) if backend == "triton" else cuda.solve(problem)
    except Unavailable as error:
        if problem.strict:
            raise
        reasons = [str(error)]
    if backend == "triton":
        return torch_instead(reasons).solve(problem)
    return instead_of_cuda(problem, reasons).solve(problem)


def _on_cpu(*arguments: Any) -> Tensor:
    problem, _ = _problem(*arguments)
    return reference.solve(problem).to(problem.scores.dtype).contiguous()


def _shape(*arguments: Any) -> Tensor:
    scores: Tensor = arguments[0]
    return torch.empty(scores.shape, dtype=scores.dtype, device=scores.device)


def _register() -> Any:
    """Define the operator; it exists as long as the returned object."""
    # torch.library has no type annotations.
    library: Any = torch.library
    ours = library.Library("crkd", "FRAGMENT")
    ours.define(_SCHEMA)
    ours.impl("sinkhorn", _on_cuda, "CUDA")
    ours.impl("sinkhorn", _on_cpu, "CPU")
    library.register_fake("crkd::sinkhorn", _shape, lib=ours)
    return ours


_library = _register()


def sinkhorn(problem: Problem, backend: str) -> Tensor:
    """Return the assignment ``(P, N, M)``, computed by the operator.

    Args:
        problem: the problem, of one process.
        backend: "cuda" or "triton".
    """
    result: Tensor = torch.ops.crkd.sinkhorn(
        problem.scores,
        problem.epsilon,
        problem.num_iters,
        problem.class_marginal,
        problem.sample_marginal,
        problem.relaxation,
        problem.storage,
        problem.strict,
        backend,
    )
    return result
