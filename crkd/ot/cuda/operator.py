"""The kernels as a PyTorch operator, ``torch.ops.crkd.sinkhorn``, for ``torch.compile``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crkd.ot import reference
from crkd.ot.cuda import solver
from crkd.ot.problem import Problem

_SCHEMA = (
    "sinkhorn(Tensor scores, float epsilon, int num_iters, Tensor? class_marginal, "
    "Tensor? sample_marginal, float? relaxation, ScalarType out_dtype, ScalarType storage) "
    "-> Tensor"
)


def _on_cpu(
    scores: Tensor,
    epsilon: float,
    num_iters: int,
    class_marginal: Tensor | None,
    sample_marginal: Tensor | None,
    relaxation: float | None,
    out_dtype: torch.dtype,
    storage: torch.dtype,
) -> Tensor:
    problem = Problem(
        scores,
        epsilon,
        num_iters,
        class_marginal,
        sample_marginal,
        relaxation,
        None,
        out_dtype,
        storage,
    )
    return reference.solve(problem).to(out_dtype).contiguous()


def _shape(
    scores: Tensor,
    epsilon: float,
    num_iters: int,
    class_marginal: Tensor | None,
    sample_marginal: Tensor | None,
    relaxation: float | None,
    out_dtype: torch.dtype,
    storage: torch.dtype,
) -> Tensor:
    return torch.empty(scores.shape, dtype=out_dtype, device=scores.device)


def _register() -> Any:
    """Define the operator; it lives as long as the object returned."""
    # PyTorch leaves torch.library without annotations.
    library: Any = torch.library
    ours = library.Library("crkd", "FRAGMENT")
    ours.define(_SCHEMA)
    ours.impl("sinkhorn", solver.solve, "CUDA")
    ours.impl("sinkhorn", _on_cpu, "CPU")
    library.register_fake("crkd::sinkhorn", _shape, lib=ours)
    return ours


_library = _register()


def sinkhorn(*arguments: object) -> Tensor:
    """Call the operator; the arguments are those of :func:`crkd.ot.cuda.solver.solve`."""
    result: Tensor = torch.ops.crkd.sinkhorn(*arguments)
    return result
