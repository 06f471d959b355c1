"""GPU checks of the Triton kernels: parity, properties, determinism, graphs and the choice.

``crkd check-gpu`` runs them. Their names do not begin with "sinkhorn:", so a failure does not
keep training from the CUDA kernels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from unittest import mock

import torch

from crkd.gpu_checks.sinkhorn import SHAPES
from crkd.gpu_checks.sinkhorn_cases import (
    EPSILON,
    CheckFailed,
    bounded,
    by_triton,
    expected,
    rand,
    randn,
    row_error,
    stress_cases,
)
from crkd.ot import problem as problems
from crkd.ot import sinkhorn

MORE_SHAPES = [*SHAPES, (2, 3000, 700), (1, 40, 4096), (1, 40, 5000), (1, 300, 20000)]


def checks() -> list[tuple[str, Callable[[], str]]]:
    """Return (name, check) pairs; all of them need a CUDA device and Triton."""
    return [
        ("triton sinkhorn: parity with float64", parity),
        ("triton sinkhorn: marginals with zeros, relaxed too", marginal_parity),
        ("triton sinkhorn: short types and strides", types_and_strides),
        ("triton sinkhorn: huge, dead, empty, duplicate", stress),
        ("triton sinkhorn: NaN stays within its problem", nan_isolation),
        ("triton sinkhorn: same bits alone and in company", determinism),
        ("triton sinkhorn: CUDA graph and torch.compile", recorded),
        ("triton sinkhorn: auto without the CUDA kernels", choice),
        ("triton sinkhorn: each kernel once", each_kernel),
    ]


def parity() -> str:
    """Compare exact and relaxed steps with float64 over odd, tiny, large and wide shapes."""
    worst = 0.0
    for shape, t in itertools.product(MORE_SHAPES, (1, 3, 30)):
        scores, label = randn(*shape), f"{shape}, {t} iterations"
        for rho, allowed in ((None, 5e-5), (0.1, 1e-4)):
            error = row_error(
                by_triton(scores, t, relaxation=rho), expected(scores, t, None, None, rho)
            )
            worst = bounded(error, allowed, f"{label}, relaxation {rho}", worst)
    return f"largest row error {worst:.1e}"


def marginal_parity() -> str:
    """Compare uneven marginals, some with zeros, with float64."""
    worst = 0.0
    for p, n, m in MORE_SHAPES:
        scores, b, a = randn(p, n, m), rand(p, m) + 0.05, rand(p, n) + 0.05
        b[:, 3::4], a[:, 2::5] = 0, 0
        b, a = b / b.sum(-1, keepdim=True), a / a.sum(-1, keepdim=True)
        scores[:, 2::5] += 20
        for rho, allowed in ((None, 5e-5), (0.1, 1e-4)):
            result = by_triton(scores, 4, class_marginal=b, sample_marginal=a, relaxation=rho)
            error = row_error(result, expected(scores, 4, b, a, rho))
            worst = bounded(error, allowed, f"{(p, n, m)}, relaxation {rho}", worst)
    return f"largest row error {worst:.1e}"


def types_and_strides() -> str:
    """Check bfloat16 and float16 scores and results, views and expanded scores."""
    worst = 0.0
    base = randn(4, 300, 70)
    views = [base[:, 3:258, 5:60], base.mT.contiguous().mT, base[:1].expand(4, -1, -1)]
    for view, dtype in itertools.product(views, (torch.float32, torch.bfloat16, torch.float16)):
        scores = view.to(dtype) if dtype != torch.float32 else view
        result = by_triton(scores, 3)
        if result.dtype != dtype or not result.is_contiguous():
            raise CheckFailed(f"the result of {dtype} scores is {result.dtype}, or not contiguous")
        rounding = 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps
        error = row_error(result, expected(scores, 3))
        worst = bounded(error, 5e-5 + rounding, f"{dtype}", worst)
    return f"largest row error {worst:.1e}"


def stress() -> str:
    """Check scores on which exponential forms fail."""
    worst = 0.0
    for n, m in ((256, 50), (300, 1000), (40, 5000)):
        for name, scores in stress_cases(n, m).items():
            large = scores[scores > -torch.inf].abs().max() > 20
            for t, rho in itertools.product((1, 3, 100), (None, 0.1)):
                if t == 100 and rho is not None:
                    continue
                result = by_triton(scores, t, relaxation=rho)
                error = row_error(result, expected(scores, t, relaxation=rho))
                label = f"{name} at {(n, m)}, {t} iterations, relaxation {rho}"
                worst = bounded(error, 5e-3 if large else 2e-4, label, worst)
    for size in (1e10, 1e30, 3e38):
        result = by_triton((rand(2, 256, 50) * 2 - 1) * size, 3)
        bounded(float((result.sum(-1) - 1).abs().max()), 1e-5, f"scores of {size}", 0)
    return f"largest row error {worst:.1e}"


def nan_isolation() -> str:
    """Check that NaN and +inf affect all of their own problem and no other problem."""
    for (n, m), value in itertools.product(((256, 50), (64, 5000)), (torch.nan, torch.inf)):
        scores = randn(3, n, m)
        before = by_triton(scores, 6)
        scores[1, n // 2, m // 3] = value
        result = by_triton(scores, 6)
        if not torch.equal(result[[0, 2]], before[[0, 2]]) or not result[1].isnan().all():
            raise CheckFailed(f"{value} leaked or got lost at {(n, m)}")
    return "two shapes"


def determinism() -> str:
    """Check that a problem's bits depend neither on the other problems nor on the run."""
    for n, m in ((256, 50), (512, 1000), (64, 5000)):
        scores = randn(24, n, m)
        together = by_triton(scores, 5)
        if not torch.equal(by_triton(scores, 5), together):
            raise CheckFailed(f"{(n, m)} differs from run to run")
        for p in (0, 7, 23):
            if not torch.equal(by_triton(scores[p : p + 1], 5)[0], together[p]):
                raise CheckFailed(f"{(n, m)}: company changes the bits")
    return "three shapes"


def recorded() -> str:
    """Check a CUDA graph with new inputs, and a compiled function without graph breaks."""
    for shape in ((8, 256, 50), (2, 64, 5000)):
        scores = randn(*shape)
        by_triton(scores, 6)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = by_triton(scores, 6)
        for _ in range(3):
            scores.copy_(randn(*shape))
            graph.replay()
            if not torch.equal(result, by_triton(scores, 6)):
                raise CheckFailed(f"a replay differs at {shape}")
        for mode in ("default", "reduce-overhead"):
            torch.compiler.reset()
            quick = torch.compile(by_triton, fullgraph=True, mode=mode)
            for _ in range(3):
                scores = randn(*shape)
                error = row_error(quick(scores, 6).clone(), by_triton(scores, 6).double())
                bounded(error, 1e-4, f"{mode} at {shape}", 0)
    return "two shapes"


def choice() -> str:
    """Check that "auto" takes Triton where the CUDA kernels cannot run."""
    # All are imported before the patch, whose end takes away what is registered within.
    cuda, scores = problems.BACKENDS.loaded()["cuda"], randn(2, 64, 20)
    without = cuda._replace(obstacles=lambda problem: ["a check of the choice"])
    with mock.patch.dict(problems.BACKENDS._entries, {"cuda": without}):
        chosen = sinkhorn(scores * 2, epsilon=EPSILON * 2, num_iters=7)
    if not torch.equal(
        chosen, sinkhorn(scores * 2, epsilon=EPSILON * 2, num_iters=7, backend="triton")
    ):
        raise CheckFailed("auto did not take Triton")
    return "the bits of Triton"


def each_kernel() -> str:
    """Run every kernel on a small problem, short enough for a sanitizer."""
    worst = 0.0
    for n, m in ((40, 50), (8, 5000)):
        scores, b, a = randn(2, n, m), rand(m) + 0.05, rand(n) + 0.05
        b, a = b / b.sum(), a / a.sum()
        for rho in (None, 0.1):
            result = by_triton(scores, 5, class_marginal=b, sample_marginal=a, relaxation=rho)
            error = row_error(result, expected(scores, 5, b, a, rho))
            worst = bounded(error, 1e-4, f"{(n, m)}, relaxation {rho}", worst)
    return f"largest row error {worst:.1e}"
