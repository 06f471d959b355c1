"""The kernels as one function: scores on a CUDA device in, their assignment out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from crkd.ot.cuda import compiler, launches, plans
from crkd.ot.cuda.launches import Kind, ResidentRun, StreamingRun

_ready: dict[Kind, ResidentRun | StreamingRun] = {}


def solve(
    scores: Tensor,
    epsilon: float,
    num_iters: int,
    class_marginal: Tensor | None,
    sample_marginal: Tensor | None,
    relaxation: float | None,
    out_dtype: torch.dtype,
) -> Tensor:
    """Return the assignment ``(P, N, M)``, contiguous; ``scores`` lie on a CUDA device.

    Raises:
        RuntimeError: a CUDA graph is being captured and these kernels were never run before.
    """
    p, n, m = scores.shape
    out = torch.empty((p, n, m), dtype=out_dtype, device=scores.device)
    if out.numel() == 0:
        return out
    if scores.stride(2) != 1:
        scores = scores.contiguous()
    kind = Kind(
        scores.device.index,
        n,
        m,
        scores.dtype,
        out_dtype,
        relaxation is not None,
        sample_marginal is not None,
    )
    run = _ready.get(kind) or prepare(kind)
    with torch.cuda.device(kind.device):
        run(
            scores,
            out,
            _rows(class_marginal),
            _rows(sample_marginal),
            num_iters,
            1.0 / (math.log(2) * epsilon),
            1.0 if relaxation is None else relaxation / (relaxation + epsilon),
        )
    return out


def bind(kind: Kind, epsilon: float, num_iters: int) -> Callable[[Tensor], Tensor] | None:
    """Return a function for scores of one shape and uniform marginals, with little overhead.

    It expects contiguous rows on the current device. None if the streaming kernels, whose many
    launches outweigh any overhead, are the ones for this shape.
    """
    run = _ready[kind]
    if not isinstance(run, ResidentRun):
        return None
    scale = 1.0 / (math.log(2) * epsilon)
    launch, kernel = compiler.core().launch, run.kernel

    def solve_bound(scores: Tensor) -> Tensor:
        out = torch.empty(scores.shape, dtype=kind.out, device=scores.device)
        p, n, m = scores.shape
        launch(
            launches.current_stream(kind.device),
            run.config(p),
            kernel,
            scores.data_ptr(),
            out.data_ptr(),
            0,
            0,
            scores.stride(0),
            scores.stride(1),
            n,
            m,
            num_iters,
            0,
            0,
            scale,
        )
        return out

    return solve_bound


def _rows(marginal: Tensor | None) -> tuple[int, int]:
    """Return address of a marginal and distance from one problem's row to the next."""
    if marginal is None:
        return 0, 0
    return marginal.data_ptr(), marginal.shape[1] if marginal.ndim == 2 else 0


def solve_with(
    layout: Callable[[int, int], plans.Streaming | None],
    scores: Tensor,
    epsilon: float,
    num_iters: int,
    class_marginal: Tensor | None = None,
    sample_marginal: Tensor | None = None,
) -> Tensor:
    """Solve by the streaming kernels in a layout of the caller's choice, for checks and timing.

    Raises:
        RuntimeError: there is no such layout.
    """
    _, n, m = scores.shape
    plan = layout(n, m)
    if plan is None:
        raise RuntimeError(f"no layout for N={n}, M={m}")
    weighted = sample_marginal is not None
    kind = Kind(scores.device.index, n, m, scores.dtype, scores.dtype, False, weighted)
    out = torch.empty(scores.shape, dtype=scores.dtype, device=scores.device)
    _streaming_run(kind, plan)(
        scores,
        out,
        _rows(class_marginal),
        _rows(sample_marginal),
        num_iters,
        1.0 / (math.log(2) * epsilon),
        1.0,
    )
    return out


def prepare(kind: Kind) -> ResidentRun | StreamingRun:
    """Compile and load the kernels for ``kind``; needed before a CUDA graph captures them.

    Raises:
        RuntimeError: a CUDA graph is being captured; loading would end the capture.
    """
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"Sinkhorn's kernels for N={kind.n}, M={kind.m} must be loaded before a CUDA graph "
            "captures them: call sinkhorn once on scores of this shape and type beforehand"
        )
    with torch.cuda.device(kind.device):
        plan = (
            None if kind.relaxed else plans.resident(kind.n, kind.m, launches.device(kind.device))
        )
        if plan is not None:
            run: ResidentRun | StreamingRun = ResidentRun(kind, plan)
        else:
            layout = plans.streaming(kind.n, kind.m)
            if layout is None:
                raise RuntimeError(
                    f"the kernels take at most {plans.LARGEST_M} classes, got {kind.m}"
                )
            run = _streaming_run(kind, layout)
    _ready[kind] = run
    return run


@functools.cache
def _streaming_run(kind: Kind, plan: plans.Streaming) -> StreamingRun:
    return StreamingRun(kind, plan)
