"""The CUDA kernels themselves, run thread by thread on the processor.

The stand-in for the machine resumes threads in random order, therefore equal results for two
orders also speak against missing barriers.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from crkd.ot.cuda import plans

CASES = {
    # n, m, cluster, warps, lanes, entries in registers
    "one block": (24, 11, 1, 2, 32, 64),
    "one class": (9, 1, 1, 1, 16, 64),
    "one sample": (1, 7, 2, 1, 8, 64),
    "four blocks": (40, 50, 4, 2, 16, 64),
    "shared memory": (33, 20, 2, 1, 8, 6),
    "idle block": (9, 40, 8, 1, 32, 64),
}

SPLIT = {
    "shares of the classes": (40, 50, 4, 2, 16, 64),
    "blocks without a share": (17, 20, 16, 1, 8, 64),
}

STREAMS = {
    # n, m, columns, team, chunks, chunks per group
    "one chunk": (40, 11, 1, 1, 1, 1),
    "uneven groups": (24, 50, 2, 1, 5, 2),
    "two warps a row": (33, 70, 2, 2, 3, 3),
    "whole block a row": (9, 513, 4, 8, 3, 2),
    "idle chunk": (9, 5, 1, 1, 4, 2),
}

PERSISTENT = {
    # n, m, blocks, cluster, warps, rows of a team in registers, shared memory of a block in bytes
    "all in registers": (14, 30, 2, 1, 2, 8, 20000),
    "three places": (100, 300, 3, 1, 4, 4, 40000),
    "a whole block a row": (23, 700, 2, 1, 4, 4, 36000),
    "idle blocks": (5, 40, 4, 1, 1, 4, 20000),
    "clusters": (60, 30, 4, 2, 2, 4, 20000),
    "clusters, three places": (100, 300, 4, 2, 4, 4, 46000),
    "clusters, a whole block a row": (23, 700, 4, 4, 4, 4, 36000),
    "idle clusters": (5, 40, 8, 4, 1, 4, 20000),
}


def scores_of(kind: str, n: int, m: int) -> Tensor:
    torch.manual_seed(n * m)
    scores = torch.randn(2, n, m)
    if kind == "wide":
        scores *= 40
    if kind == "stress":
        scores[0, : n // 3] -= 60
        scores[1, :, m // 2] -= 90
        scores[1, n // 2] = -torch.inf
    return scores


@pytest.mark.parametrize("name", [*CASES, *SPLIT])
def test_resident_kernel_matches_the_loop(
    name: str,
    kernels_on_cpu: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    n, m, cluster, warps, lanes, registers = (CASES | SPLIT)[name]
    plan = plans.resident_layout(
        n, m, cluster=cluster, warps=warps, lanes=lanes, registers=registers
    )
    plan = plan._replace(split=name in SPLIT)
    for kind, num_iters in itertools.product(("plain", "wide", "stress"), (1, 3, 8)):
        scores = scores_of(kind, n, m)
        results = [
            kernels_on_cpu.resident(scores, plan, epsilon=0.05, num_iters=num_iters, seed=seed)
            for seed in (0, 1)
        ]
        assert torch.equal(*results)
        expected = float64_loop(scores, 0.05, num_iters)
        assert row_error(results[0], expected) <= (1e-5 if kind == "plain" else 2e-4), kind


def test_the_place_of_entries_changes_no_bit(kernels_on_cpu: ModuleType) -> None:
    """Two problems on a multiprocessor have half of the registers each."""
    scores = scores_of("stress", 60, 20)
    plan = plans.resident_layout(60, 20, cluster=2, warps=2, lanes=8)
    assert plan is not None
    assert plan.rows_in_registers == plan.rows == 4
    results = [
        kernels_on_cpu.resident(
            scores,
            plan._replace(rows_in_registers=kept, blocks_per_sm=blocks),
            epsilon=0.05,
            num_iters=8,
        )
        for kept, blocks in ((4, 1), (1, 2), (0, 2))
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("relaxation", [None, 0.1])
@pytest.mark.parametrize("name", STREAMS)
def test_streaming_kernels_match_the_loop(
    name: str,
    relaxation: float | None,
    kernels_on_cpu: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    n, m, *layout = STREAMS[name]
    plan = plans.Streaming(*layout)
    scores = torch.cat([scores_of("stress", n, m), scores_of("plain", n, m)[:1]])
    result, other_order = (
        kernels_on_cpu.streaming(
            scores, plan, epsilon=0.05, num_iters=3, relaxation=relaxation, seed=seed
        )
        for seed in (0, 1)
    )
    assert torch.equal(result, other_order)
    expected = float64_loop(scores, 0.05, 3, relaxation=relaxation)
    assert row_error(result[:2], expected[:2]) <= 2e-4
    assert row_error(result[2:], expected[2:]) <= 1e-5


@pytest.mark.parametrize("name", PERSISTENT)
def test_persistent_kernel_matches_the_loop(
    name: str,
    kernels_on_cpu: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    """The copy of the plan is rounded to 8 bits; the result, unlike with short scores, is not."""
    n, m, blocks, cluster, warps, kept, shared = PERSISTENT[name]
    device = plans.Device(90, shared, cluster, 2 * blocks)
    layout = plans.persistent_layout(
        n, m, device, blocks=blocks, cluster=cluster, warps=warps, kept=kept
    )
    assert layout.shared_bytes <= shared
    first_and_last = plans.streaming(n, m)
    scores = torch.cat([scores_of("stress", n, m), scores_of("plain", n, m)[:1]])
    result, other_order = (
        kernels_on_cpu.streaming(
            scores, first_and_last, epsilon=0.05, num_iters=6, seed=seed, persistent=layout
        )
        for seed in (0, 1)
    )
    assert torch.equal(result, other_order)
    expected, short = (float64_loop(x, 0.05, 6) for x in (scores, scores.bfloat16()))
    for kind in (slice(2), slice(2, 3)):
        error = row_error(result[kind], expected[kind])
        assert error <= 3e-3
        assert row_error(short[kind], expected[kind]) > 5 * error


@pytest.mark.parametrize("kernel", ["resident", "streaming"])
def test_marginals_strides_and_types(
    kernel: str,
    kernels_on_cpu: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    torch.manual_seed(0)
    n, m = 30, 20
    b, a = torch.rand(m), torch.rand(2, n)
    b[3], a[:, ::4] = 0, 0
    b, a = b / b.sum(), a / a.sum(-1, keepdim=True)
    plan = (
        plans.resident_layout(n, m, cluster=2, warps=1, lanes=16)
        if kernel == "resident"
        else plans.Streaming(1, 1, 2, 1)
    )
    solve = getattr(kernels_on_cpu, kernel)
    scores = torch.randn(2, n + 5, m + 3)[:, 2 : n + 2, 1 : m + 1]
    scores[0, 4] += 50  # of no weight, yet far above all others
    result = solve(scores, plan, epsilon=0.1, num_iters=4, b=b, a=a)
    assert row_error(result, float64_loop(scores, 0.1, 4, b, a)) <= 2e-5
    for dtype, out_dtype in ((torch.bfloat16, torch.float16), (torch.float16, torch.bfloat16)):
        short = scores.to(dtype)
        result = solve(short, plan, epsilon=0.1, num_iters=4, b=b, a=a, out_dtype=out_dtype)
        assert result.dtype == out_dtype
        assert row_error(result, float64_loop(short, 0.1, 4, b, a)) <= 5e-3


@pytest.mark.parametrize("kernel", ["resident", "streaming", "persistent"])
def test_nan_stays_within_its_problem(kernel: str, kernels_on_cpu: ModuleType) -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 20, 6)
    plan = plans.Streaming(1, 1, 2, 2)
    solve = kernels_on_cpu.streaming
    if kernel == "resident":
        plan = plans.resident_layout(20, 6, cluster=2, warps=1, lanes=8)
        solve = kernels_on_cpu.resident
    if kernel == "persistent":
        device = plans.Device(90, 20000, 1, 4)
        layout = plans.persistent_layout(20, 6, device, blocks=2, cluster=1, warps=1)
        solve = functools.partial(solve, persistent=layout)
    clean = solve(scores, plan, epsilon=0.1, num_iters=3)
    scores[1, 7, 2] = torch.nan
    result = solve(scores, plan, epsilon=0.1, num_iters=3)
    assert torch.equal(result[0], clean[0])
    assert result[1].isnan().all()


@pytest.mark.parametrize("size", [1e10, 1e30, 3e38])
def test_any_finite_score_is_safe(size: float, kernels_on_cpu: ModuleType) -> None:
    torch.manual_seed(0)
    scores = (torch.rand(1, 20, 6) * 2 - 1) * size
    plan = plans.resident_layout(20, 6, cluster=2, warps=1, lanes=8)
    for result in (
        kernels_on_cpu.resident(scores, plan, epsilon=0.05, num_iters=3),
        kernels_on_cpu.streaming(scores, plans.Streaming(1, 1, 2, 2), epsilon=0.05, num_iters=3),
    ):
        torch.testing.assert_close(result.sum(-1), torch.ones(1, 20))


def test_rows_at_the_edge_of_the_number_range(
    kernels_on_cpu: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    """Row sums that a GPU takes for zero when it inverts them, yet not when it adds them up."""
    n, m = 48, 20
    scores = torch.randn(1, n, m, generator=torch.Generator().manual_seed(0)) * 0.05
    # Logarithms of the row sums to base 2 from about -146 to -57, two apart.
    depth = torch.linspace(60, 150, n - 2)
    scores[0, 2:] -= (depth * 0.05 * math.log(2))[:, None]
    expected = float64_loop(scores, 0.05, 4)
    layout = plans.resident_layout(n, m, cluster=2, warps=1, lanes=8)
    result = kernels_on_cpu.resident(scores, layout, epsilon=0.05, num_iters=4)
    assert row_error(result, expected) <= 2e-4
    result = kernels_on_cpu.streaming(
        scores, plans.Streaming(1, 1, 2, 2), epsilon=0.05, num_iters=4
    )
    assert row_error(result, expected) <= 2e-4


@pytest.mark.parametrize("split", [False, True])
def test_factors_that_wander_are_absorbed(
    split: bool,
    kernels_on_cpu: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    """Scores whose potentials move by more than 2^20 within some iterations."""
    n = m = 24
    position = torch.arange(n) / n
    scores = -(position[:, None] - position[None] ** 3).abs()[None] * 40
    a = torch.full((n,), 1e-4)
    a[5] = 1.0
    a /= a.sum()
    plan = plans.resident_layout(n, m, cluster=2, warps=1, lanes=8)
    plan = plan._replace(split=split)
    result = kernels_on_cpu.resident(scores, plan, epsilon=0.05, num_iters=60, a=a)
    assert row_error(result, float64_loop(scores, 0.05, 60, a=a)) <= 5e-4


def test_persistent_kernel_builds_its_copy_again_when_factors_wander(
    kernels_on_cpu: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    n, m = 40, 30
    scores = -(torch.arange(n)[:, None] / n - (torch.arange(m) / m) ** 3).abs()[None] * 40
    a = torch.full((n,), 1e-4)
    a[5], a[7] = 1.0, 0.0
    a /= a.sum()
    b = torch.rand(m, generator=torch.Generator().manual_seed(0))
    b[3] = 0
    b /= b.sum()
    device = plans.Device(90, 20000, 2, 4)
    layout = plans.persistent_layout(n, m, device, blocks=4, cluster=2, warps=2, kept=4)
    result = kernels_on_cpu.streaming(
        scores, plans.streaming(n, m), epsilon=0.05, num_iters=30, a=a, b=b, persistent=layout
    )
    assert row_error(result, float64_loop(scores, 0.05, 30, b, a)) <= 4e-3
