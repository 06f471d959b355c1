"""Solver function of the kernels: scores on a CUDA device to their assignment."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from crkd.ot.cuda import launches, plans
from crkd.ot.cuda.launches import Kind
from crkd.ot.cuda.runs import Call, PersistentRun, ResidentRun, StreamingRun
from crkd.ot.preparation import prepared
from crkd.ot.problem import Problem

_ready: dict[Kind, ResidentRun | StreamingRun] = {}
_failed: dict[Kind, str] = {}


def solve(problem: Problem) -> Tensor:
    """Return the assignment ``(P, N, M)``, contiguous, for scores on a CUDA device.

    Raises:
        Unavailable: the kernels cannot be compiled or loaded.
        RuntimeError: a CUDA graph is being captured and these kernels were never run before.
    """
    scores = problem.scores
    if scores.numel() == 0:
        return torch.empty(scores.shape, dtype=scores.dtype, device=scores.device)
    if scores.stride(2) != 1:
        scores = scores.contiguous()
    # The kernels read marginals row by row, but expanded or transposed ones have other strides.
    b, a = (
        None if marginal is None else marginal.contiguous()
        for marginal in (problem.class_marginal, problem.sample_marginal)
    )
    kind = kind_of(problem)
    run = prepare(kind)
    with torch.cuda.device(kind.device):
        call = call_of(problem.epsilon, problem.num_iters, b, a, problem.relaxation)
        return solve_with(run, scores, call)


def bind(kind: Kind, call: Call) -> Callable[[Tensor], Tensor]:
    """Return a function for scores of one kind that does no look-ups.

    The scores need contiguous rows on the current device, and the kernels must be prepared.
    """
    run = _ready[kind]

    def solve_bound(scores: Tensor) -> Tensor:
        return solve_with(run, scores, call)

    return solve_bound


def solve_with(run: ResidentRun | StreamingRun, scores: Tensor, call: Call) -> Tensor:
    """Enqueue ``run`` on the current device and return its result."""
    out = torch.empty(scores.shape, dtype=scores.dtype, device=scores.device)
    run(scores, out, call)
    return out


def kind_of(problem: Problem) -> Kind:
    """Return the kind of machine code for ``problem``."""
    scores = problem.scores
    _, n, m = scores.shape
    relaxed = problem.relaxation is not None
    weighted = problem.sample_marginal is not None
    short = problem.storage == torch.bfloat16 and not relaxed
    return Kind(scores.device.index, n, m, scores.dtype, relaxed, weighted, short)


def call_of(
    epsilon: float,
    num_iters: int,
    class_marginal: Tensor | None = None,
    sample_marginal: Tensor | None = None,
    relaxation: float | None = None,
) -> Call:
    """Return the kernels' arguments for one solve."""
    return Call(
        num_iters,
        1.0 / (math.log(2) * epsilon),
        1.0 if relaxation is None else relaxation / (relaxation + epsilon),
        *_rows(class_marginal),
        *_rows(sample_marginal),
    )


def _rows(marginal: Tensor | None) -> tuple[int, int]:
    """Return the address of a marginal and the stride from one problem's row to the next."""
    if marginal is None:
        return 0, 0
    return marginal.data_ptr(), marginal.shape[1] if marginal.ndim == 2 else 0


def prepare(kind: Kind) -> ResidentRun | StreamingRun:
    """Return the kernels for ``kind``, compiled and loaded at the first call.

    One call is needed before a CUDA graph captures them. A failure is not tried again.

    Raises:
        Unavailable: they cannot be compiled or loaded.
        RuntimeError: a CUDA graph is being captured; loading would end the capture.
    """
    return prepared(
        kind,
        _made,
        ready=_ready,
        failed=_failed,
        kernels="the kernels",
        sizes=f"N={kind.n}, M={kind.m}",
    )


def _made(kind: Kind) -> ResidentRun | StreamingRun:
    with torch.cuda.device(kind.device):
        return _resident_run(kind) or streaming_run(kind)


def _resident_run(kind: Kind) -> ResidentRun | None:
    """Return the launch that keeps a problem on the chip, or None without such a layout."""
    if kind.relaxed:
        return None
    device = launches.device(kind.device)
    # A partial device, or one with few active multiprocessors, may refuse clusters of 16 blocks,
    # which only the loaded kernel can tell.
    for limit in sorted({device.largest_cluster, min(8, device.largest_cluster)}, reverse=True):
        plan = plans.resident(kind.n, kind.m, device._replace(largest_cluster=limit))
        if plan is None:
            return None
        run = ResidentRun(kind, plan)
        if plan.cluster <= 8 or run.kernel.clusters_at_once() > 0:
            return run
    return None


@functools.cache
def streaming_run(kind: Kind) -> StreamingRun:
    """Return the launches that read the scores from memory in each iteration.

    Raises:
        RuntimeError: there are more classes than the kernels take.
    """
    plan = plans.streaming(kind.n, kind.m)
    if plan is None:
        raise RuntimeError(f"the kernels take at most {plans.LARGEST_M} classes, got {kind.m}")
    return StreamingRun(kind, plan, _persistent_run(kind) if kind.short else None)


def _persistent_run(kind: Kind) -> PersistentRun | None:
    """Return the launches of ``persistent.cu``, or None if a problem does not fit the device."""
    device = launches.device(kind.device)
    # A partial device may have room for all blocks of a problem, but not for its clusters.
    for limit in sorted({device.largest_cluster, 1}, reverse=True):
        plan = plans.persistent(kind.n, kind.m, device._replace(largest_cluster=limit))
        if plan is None:
            return None
        run = PersistentRun(kind, plan)
        if run.together:
            return run
    return None
