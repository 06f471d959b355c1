"""GPU checks of the CUDA kernels: parity, properties, determinism and graph capture.

``crkd check-gpu`` runs them. A check returns one line of numbers or raises CheckFailed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from crkd.gpu_checks import sinkhorn_launches
from crkd.gpu_checks.sinkhorn_cases import (
    EPSILON,
    CheckFailed,
    Run,
    bounded,
    expected,
    persist,
    rand,
    randn,
    row_error,
    solve,
    stream,
    stress_cases,
)
from crkd.ot import sinkhorn

SHAPES = [
    (1, 1, 1),
    (3, 1, 7),
    (2, 9, 1),
    (5, 33, 5),
    (2, 7, 60),
    (3, 130, 33),
    (8, 256, 50),
    (8, 512, 250),
    (2, 512, 1000),
    (4, 1024, 200),
    (1, 1000, 100),
    (2, 65, 513),
    (1, 40, 2100),
    (1, 4096, 300),
]


def checks() -> list[tuple[str, Callable[[], str]]]:
    """Return (name, check) pairs; all of them need a CUDA device and ``crkd[cuda]``."""
    return [
        ("sinkhorn: parity with float64", parity),
        ("sinkhorn: streaming kernels alone", streaming_parity),
        ("sinkhorn: persistent kernel, short plan", persistent_parity),
        ("sinkhorn: relaxed class marginal", relaxed_parity),
        ("sinkhorn: marginals with zeros", marginal_parity),
        ("sinkhorn: short types and strides", types_and_strides),
        ("sinkhorn: huge, dead, empty, duplicate", stress),
        ("sinkhorn: invariances", properties),
        ("sinkhorn: NaN stays within its problem", nan_isolation),
        ("sinkhorn: same bits alone and in company", determinism),
        *sinkhorn_launches.checks(),
        ("sinkhorn: each kernel once", each_kernel),
    ]


def parity() -> str:
    """Compare the chosen kernels with float64 over odd, tiny and large shapes."""
    return _compare(lambda scores, t: solve(scores, t), SHAPES)


def streaming_parity() -> str:
    """Compare the streaming kernels with float64 on shapes for which the resident one is chosen."""
    return _compare(stream, SHAPES)


def persistent_parity() -> str:
    """Compare the persistent kernel, which keeps the plan in bfloat16, with float64."""
    shapes = [*SHAPES, (3, 4096, 700), (1, 3000, 5000)]
    for shape in shapes[-2:]:
        scores = randn(*shape)
        chosen = solve(scores, 9, storage=torch.bfloat16)
        if not torch.equal(chosen, persist(scores, 9)):
            raise CheckFailed(f"storage=torch.bfloat16 does not reach the kernel at {shape}")
    return _compare(persist, shapes, tolerance=4e-3)


def relaxed_parity() -> str:
    """Compare the relaxed class step with float64."""
    return _compare(
        lambda scores, t: solve(scores, t, relaxation=0.1),
        SHAPES,
        relaxation=0.1,
        tolerance=1e-4,
    )


def marginal_parity() -> str:
    """Compare uneven marginals, some with zeros, with float64."""
    worst = 0.0
    for p, n, m in SHAPES:
        scores, b, a = randn(p, n, m), rand(p, m) + 0.05, rand(p, n) + 0.05
        b[:, 3::4], a[:, 2::5] = 0, 0
        b, a = b / b.sum(-1, keepdim=True), a / a.sum(-1, keepdim=True)
        scores[:, 2::5] += 20
        wanted = expected(scores, 4, b, a)
        for result in (
            solve(scores, 4, class_marginal=b, sample_marginal=a),
            stream(scores, 4, b, a),
        ):
            worst = bounded(row_error(result, wanted), 5e-5, f"{(p, n, m)}", worst)
    return f"largest row error {worst:.1e}"


def types_and_strides() -> str:
    """Check bfloat16 and float16 scores and results, views and expanded scores."""
    worst = 0.0
    base = randn(4, 300, 70)
    views = [base[:, 3:258, 5:60], base.mT.contiguous().mT, base[:1].expand(4, -1, -1)]
    for view, dtype in itertools.product(views, (torch.float32, torch.bfloat16, torch.float16)):
        scores = view.to(dtype) if dtype != torch.float32 else view
        wanted = expected(scores, 3)
        result = solve(scores, 3)
        if result.dtype != dtype:
            raise CheckFailed(f"the result of {dtype} scores is {result.dtype}")
        # Entries of a row sum to one, so their rounding does not exceed that of the number one.
        rounding = 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps
        worst = bounded(row_error(result, wanted), 5e-5 + rounding, f"{dtype}", worst)
        if not result.is_contiguous():
            raise CheckFailed("the result is not contiguous")
    return f"largest row error {worst:.1e}"


def stress() -> str:
    """Check scores on which exponential forms fail."""
    worst = 0.0
    for n, m in ((256, 50), (512, 250), (300, 1000), (3000, 90)):
        for name, scores in stress_cases(n, m).items():
            for num_iters in (1, 3, 100):
                wanted = expected(scores, num_iters)
                large = scores[scores > -torch.inf].abs().max() > 20
                tolerance = 5e-3 if large else 2e-4
                label = f"{name} at {(n, m)}, {num_iters} iterations"
                for run, allowed in ((solve, tolerance), (stream, tolerance), (persist, 5e-3)):
                    error = row_error(run(scores, num_iters), wanted)
                    worst = bounded(error, allowed, f"{run.__name__}, {label}", worst)
            relaxed = solve(scores, 3, relaxation=0.1)
            error = row_error(relaxed, expected(scores, 3, relaxation=0.1))
            worst = bounded(error, tolerance, f"relaxed, {name} at {(n, m)}", worst)
    for size in (1e10, 1e30, 3e38):
        scores = (rand(2, 256, 50) * 2 - 1) * size
        for result in (solve(scores, 3), stream(scores, 3)):
            bounded(float((result.sum(-1) - 1).abs().max()), 1e-5, f"scores of {size}", 0)
    return f"largest row error {worst:.1e}"


def properties() -> str:
    """Check invariances: constants per class and problem, scale, permutations."""
    scores = randn(4, 256, 50)
    result = solve(scores, 3)
    order, classes = torch.randperm(256).cuda(), torch.randperm(50).cuda()
    others = {
        "constant per class": solve(scores + torch.arange(50).cuda() * 0.25, 3),
        "constant per problem": solve(scores + 4 * torch.arange(4).cuda()[:, None, None], 3),
        "scale": sinkhorn(scores * 8, epsilon=EPSILON * 8, num_iters=3, backend="cuda"),
        "permuted samples": solve(scores[:, order], 3)[:, order.argsort()],
        "permuted classes": solve(scores[..., classes], 3)[..., classes.argsort()],
    }
    worst = 0.0
    for name, other in others.items():
        worst = bounded(row_error(other, result.double()), 1e-4, name, worst)
    return f"largest difference {worst:.1e}"


def nan_isolation() -> str:
    """Check that NaN affects all of its own problem and no other problem."""
    for n, m in ((256, 50), (512, 250), (5000, 1000)):
        scores = randn(3, n, m)
        runs: tuple[Run, ...] = (solve, stream, persist)
        clean = [run(scores, 6) for run in runs]
        scores[1, n // 2, m // 3] = torch.nan
        for run, before in zip(runs, clean, strict=True):
            result = run(scores, 6)
            if not torch.equal(result[[0, 2]], before[[0, 2]]) or not result[1].isnan().all():
                raise CheckFailed(f"NaN leaked or got lost at {(n, m)}")
    return "three shapes, all kernels"


def determinism() -> str:
    """Check that a problem's bits depend neither on the other problems nor on the run."""
    for n, m in ((256, 50), (512, 250), (1024, 200), (512, 1000), (4096, 300)):
        scores = randn(24, n, m)
        for run in (solve, stream, persist):
            together = run(scores, 5)
            if not torch.equal(run(scores, 5), together):
                raise CheckFailed(f"{run.__name__} at {(n, m)} differs from run to run")
            for p in (0, 7, 23):
                if not torch.equal(run(scores[p : p + 1], 5)[0], together[p]):
                    raise CheckFailed(f"{run.__name__} at {(n, m)}: company changes the bits")
    return "five shapes, all kernels"


def each_kernel() -> str:
    """Run every kernel on a small problem, short enough for a sanitizer."""
    worst = 0.0
    for n, m in ((40, 50), (512, 1000), (300, 70)):
        scores, b, a = randn(2, n, m), rand(m) + 0.05, rand(n) + 0.05
        b, a, label = b / b.sum(), a / a.sum(), f"{(n, m)}"
        wanted = expected(scores, 5)
        for result in (solve(scores, 5), stream(scores, 5), persist(scores, 5)):
            worst = bounded(row_error(result, wanted), 4e-3, label, worst)
        weighted = solve(scores, 5, class_marginal=b, sample_marginal=a)
        worst = bounded(row_error(weighted, expected(scores, 5, b, a)), 1e-4, label, worst)
        relaxed = solve(scores, 5, relaxation=0.1)
        wanted = expected(scores, 5, relaxation=0.1)
        worst = bounded(row_error(relaxed, wanted), 1e-4, label, worst)
    return f"largest row error {worst:.1e}"


def _compare(
    run: Run,
    shapes: list[tuple[int, int, int]],
    *,
    relaxation: float | None = None,
    tolerance: float = 5e-5,
) -> str:
    worst = 0.0
    for shape, num_iters in itertools.product(shapes, (1, 3, 30)):
        for scores in (randn(*shape), rand(*shape) * 2 - 1):
            wanted = expected(scores, num_iters, relaxation=relaxation)
            error = row_error(run(scores, num_iters), wanted)
            worst = bounded(error, tolerance, f"{shape}, {num_iters} iterations", worst)
    return f"largest row error {worst:.1e}"
