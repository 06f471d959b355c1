"""The simulated cluster notices a resident kernel that does not wait for what it is sent.

Each fault is put into the text of the kernel. It must stop the run or change the result for one of
a few orders of threads and arrivals; the kernel as it is must pass all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from crkd.ot.cuda import plans

ORDERS = range(4)
SHARES = {"one exchange": False, "two exchanges": True}

FAULTS = {
    # layout, text of the kernel, what takes its place
    "no wait for the sums": ("one exchange", "wait_for_mail(sums_box + turn, parity);", ";"),
    "no wait for the first sums": ("one exchange", "wait_for_mail(sums_box, 0);", ";"),
    "no wait for the factors": ("two exchanges", "wait_for_mail(factors_box + turn, parity);", ";"),
    "no wait for the first factors": ("two exchanges", "wait_for_mail(factors_box, 0);", ";"),
    "wrong parity": ("one exchange", "parity = iteration >> 1 & 1", "parity = ~iteration >> 1 & 1"),
    "parity of the neighbor": ("one exchange", "parity = iteration >> 1 & 1", "parity = turn"),
    "only one thread waits": (
        "one exchange",
        "wait_for_mail(sums_box + turn, parity);",
        "if (tid == 0) wait_for_mail(sums_box + turn, parity);",
    ),
    "one slot": ("one exchange", "inbox + turn * CLUSTER * SHARE", "inbox"),
    "peers may not have begun": ("one exchange", "wait_for_mailboxes();", ";"),
    "too few bytes": (
        "two exchanges",
        "expect(sums_box + turn, CLUSTER * own_classes);",
        "expect(sums_box + turn, CLUSTER * own_classes - 4);",
    ),
    "too many bytes": (
        "two exchanges",
        "expect(factors_box, 2 * MP);",
        "expect(factors_box, 3 * MP);",
    ),
}


def solved(
    kernels_on_cpu: ModuleType, layout: str, order: int, *edits: tuple[str, str]
) -> tuple[Tensor, Tensor]:
    """Return the scores and the result of a small problem of four blocks."""
    scores = torch.randn(1, 30, 16, generator=torch.Generator().manual_seed(0))
    plan = plans.resident_layout(30, 16, cluster=4, warps=2, lanes=8)
    assert plan is not None
    plan = plan._replace(split=SHARES[layout])
    result = kernels_on_cpu.resident(
        scores, plan, epsilon=0.1, num_iters=6, seed=order, edits=edits
    )
    return scores, result


@pytest.mark.parametrize("layout", SHARES)
def test_the_kernel_itself_passes(
    layout: str,
    kernels_on_cpu: ModuleType,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    results = [solved(kernels_on_cpu, layout, order) for order in ORDERS]
    assert all(torch.equal(result, results[0][1]) for _, result in results)
    scores, result = results[0]
    assert row_error(result, float64_loop(scores, 0.1, 6)) <= 1e-5


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_noticed(name: str, kernels_on_cpu: ModuleType) -> None:
    layout, old, new = FAULTS[name]
    _, expected = solved(kernels_on_cpu, layout, 0)

    def with_fault(order: int) -> Tensor:
        return solved(kernels_on_cpu, layout, order, (old, new))[1]

    assert kernels_on_cpu.shows_a_fault(with_fault, ORDERS, expected)
