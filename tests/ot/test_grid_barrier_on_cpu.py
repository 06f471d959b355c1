"""The simulated GPU notices a persistent kernel whose blocks do not wait for each other.

Each fault is put into the text of the kernel. It must stop the run or change the result for one of
a few orders of threads, stores and arrivals; the kernel as it is must pass all of them. Half of the
faults are left to the long form, because each is a compilation.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from crkd.ot.cuda import plans
from tests.support.reliability import LONG

ORDERS = (0, 1, 3, 7, 11, 15)
CLUSTERS = {"clusters": 2, "single blocks": 1}
SHAPE = (12, 60)
"""More classes than a share of one warp, and few enough samples for two steps of a team."""

FAULTS: dict[str, tuple[str, str, str]] = {
    # layout, text of the kernel, what takes its place
    "no barrier": (
        "clusters",
        "wait_for_blocks(counter, (step + 1) * CLUSTERS);",
        "__syncthreads();",
    ),
    "a barrier of too few blocks": ("clusters", "(step + 1) * CLUSTERS)", "step * CLUSTERS + 1)"),
    "one slot": ("clusters", "+ (i64)parity) * CLUSTERS", "+ 0) * CLUSTERS"),
    "no release": ("clusters", "add_release(counter);", "atomicAdd(counter, 1u);"),
    "no acquire": (
        "clusters",
        "while (load_acquire(counter) < arrivals)",
        "while (*(volatile u32*)counter < arrivals)",
    ),
    "no barrier of the block before": (
        "clusters",
        "    __syncthreads();\n    if (threadIdx.x == 0) {\n        add_release",
        "    if (threadIdx.x == 0) {\n        add_release",
    ),
    "a read-only load": ("clusters", "__ldcg(slot + c * m + j)", "__ldg(slot + c * m + j)"),
    "no wait for the masses": ("clusters", "wait_for_mail(sums_box, parity);", ";"),
    "no second barrier": (
        "single blocks",
        "wait_for_blocks(counter, (2 * step + 2) * BLOCKS);",
        "__syncthreads();",
    ),
}
MORE_FAULTS = {
    "the counter of another block": ("clusters", "* CLUSTER + rank;", "* CLUSTER + rank / 2;"),
    "no barrier of the block after": (
        "clusters",
        "wait_a_moment();\n    }\n    __syncthreads();",
        "wait_a_moment();\n    }",
    ),
    "no wait for the factors": ("clusters", "wait_for_mail(factors_box, parity);", ";"),
    "factors of other blocks are sent too early": (
        "clusters",
        "if (tid == 0) expect_mail(factors_box, 4 * MP);\n        __syncthreads();",
        "if (tid == 0) expect_mail(factors_box, 4 * MP);",
    ),
    "peers may not have begun": ("clusters", "wait_for_mailboxes();", ";"),
    "no first barrier": (
        "single blocks",
        "wait_for_blocks(counter, (2 * step + 1) * BLOCKS);",
        "__syncthreads();",
    ),
}
if LONG:
    FAULTS |= MORE_FAULTS


def solved(
    kernels_on_cpu: ModuleType, layout: str, order: int, *edits: tuple[str, str]
) -> tuple[Tensor, Tensor]:
    """Return the scores and the result of a small problem of four blocks."""
    n, m = SHAPE
    scores = torch.randn(1, n, m, generator=torch.Generator().manual_seed(0))
    cluster = CLUSTERS[layout]
    device = plans.Device(90, 20000, cluster, 4)
    persistent = plans.persistent_layout(n, m, device, blocks=4, cluster=cluster, warps=2, kept=4)
    result = kernels_on_cpu.streaming(
        scores,
        plans.Streaming(2, 1, 1, 1),
        epsilon=0.1,
        num_iters=6,
        seed=order,
        persistent=persistent,
        edits=edits,
    )
    return scores, result


@pytest.mark.parametrize("layout", CLUSTERS)
def test_the_kernel_itself_passes(
    layout: str,
    kernels_on_cpu: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    results = [solved(kernels_on_cpu, layout, order) for order in ORDERS]
    assert all(torch.equal(result, results[0][1]) for _, result in results)
    scores, result = results[0]
    assert row_error(result, float64_loop(scores, 0.1, 6)) <= 3e-3


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_noticed(name: str, kernels_on_cpu: ModuleType) -> None:
    layout, old, new = FAULTS[name]
    _, expected = solved(kernels_on_cpu, layout, 0)

    def with_fault(order: int) -> Tensor:
        return solved(kernels_on_cpu, layout, order, (old, new))[1]

    assert kernels_on_cpu.shows_a_fault(with_fault, ORDERS, expected)
