"""PyTorch operator ``torch.ops.crkd.sinkhorn`` of the kernels, for ``torch.compile``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crkd.ot import reference
from crkd.ot.cuda import solver
from crkd.ot.problem import Problem, torch_instead

_SCHEMA = (
    "sinkhorn(Tensor scores, float epsilon, int num_iters, Tensor? class_marginal, "
    "Tensor? sample_marginal, float? relaxation, ScalarType storage, "
    "bool strict=False) -> Tensor"
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
) -> Problem:
    """Return the problem of the operator's arguments, in the order of its schema."""
    return Problem(
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


def _on_cuda(*arguments: Any) -> Tensor:
    # Traced code has chosen its backend before anything could be compiled or loaded.
    problem = _problem(*arguments)
    try:
        return solver.solve(problem)
    except solver.Unavailable as error:
        if problem.strict:
            raise
        reason = str(error)
    return torch_instead([reason]).solve(problem)


def _on_cpu(*arguments: Any) -> Tensor:
    problem = _problem(*arguments)
    return reference.solve(problem).to(problem.scores.dtype).contiguous()


def _shape(*arguments: Any) -> Tensor:
    scores = _problem(*arguments).scores
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


def sinkhorn(problem: Problem) -> Tensor:
    """Return the assignment ``(P, N, M)``, computed by the operator."""
    result: Tensor = torch.ops.crkd.sinkhorn(
        problem.scores,
        problem.epsilon,
        problem.num_iters,
        problem.class_marginal,
        problem.sample_marginal,
        problem.relaxation,
        problem.storage,
        problem.strict,
    )
    return result
