"""Launch sequences of the kernel families for one solve."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from crkd.ot.cuda import plans
from crkd.ot.cuda.launches import Kernel, Kind

SHORT_FROM = 4
"""Number of iterations from which a bfloat16 copy of the plan saves time."""


class Call(NamedTuple):
    """Arguments of one solve besides its scores.

    Attributes:
        num_iters: iterations, at least 1.
        scale: log2(e) / epsilon.
        power: power of the class step, 1 unless it is relaxed.
        class_address: address of the class marginal; 0 if uniform.
        class_stride: entries from one problem's class marginal to the next.
        sample_address: the same for the sample marginal.
        sample_stride: likewise.
    """

    num_iters: int
    scale: float
    power: float = 1.0
    class_address: int = 0
    class_stride: int = 0
    sample_address: int = 0
    sample_stride: int = 0


class ResidentRun:
    """Enqueues the single launch of ``resident.cu``."""

    def __init__(self, kind: Kind, plan: plans.Resident) -> None:
        self.kernel = Kernel(kind, "resident", plan, plan.constants, cluster=plan.cluster)

    def __call__(self, scores: Tensor, out: Tensor, call: Call) -> None:
        """Enqueue the launch for scores ``(P, N, M)`` whose rows are contiguous."""
        p, n, m = scores.shape
        stride = scores.stride()
        self.kernel(
            p,
            scores.data_ptr(),
            out.data_ptr(),
            call.class_address,
            call.sample_address,
            stride[0],
            stride[1],
            n,
            m,
            call.num_iters,
            call.class_stride,
            call.sample_stride,
            call.scale,
        )


class StreamingRun:
    """Enqueues the T + 1 launches of ``streaming.cu``.

    With a layout of ``persistent.cu``, and if there are enough iterations, that kernel runs those
    between the first class step and the result.
    """

    def __init__(
        self, kind: Kind, plan: plans.Streaming, persistent: plans.Persistent | None = None
    ) -> None:
        self.plan, self.persistent = plan, persistent
        self.first, self.middle, self.last = (
            Kernel(kind, "streaming", plan, plan.constants(step))
            for step in (0, 2 if kind.relaxed else 1, 3)
        )
        if persistent is not None:
            self.kernel = Kernel(
                kind, "persistent", persistent, persistent.constants, cooperative=True
            )

    def __call__(self, scores: Tensor, out: Tensor, call: Call) -> None:
        """Enqueue the launches for scores ``(P, N, M)`` whose rows are contiguous."""
        p, n, m = scores.shape
        plan = self.plan
        persistent = self.persistent if call.num_iters >= SHORT_FROM else None
        own = () if persistent is None else _own_parts(persistent, p, m)
        counts = p * (plan.groups + 1)
        parts = (*own, 2 * p * m, 2 * p * plan.chunks * m, 2 * p * plan.groups * m, counts)
        # One tensor holds all buffers until the last launch is enqueued. Memory freed earlier could
        # be reused by the next allocation, and memory kept for later calls could belong to the
        # private pool of a CUDA graph.
        workspace = torch.empty(sum(parts), dtype=torch.int32, device=scores.device)
        workspace[-counts:].zero_()
        starts = [workspace.data_ptr() + 4 * words for words in accumulate(parts, initial=0)]
        potentials, chunk_sums, group_sums, counters = starts[len(own) : len(parts)]
        arguments = (
            scores.data_ptr(),
            out.data_ptr(),
            call.class_address,
            call.sample_address,
            potentials,
            chunk_sums,
            group_sums,
            counters,
            *scores.stride()[:2],
            n,
            m,
            plan.chunks,
            plan.chunks_per_group,
            call.class_stride,
            call.sample_stride,
            call.scale,
            call.power,
        )
        grid = p * plan.chunks
        self.first(grid, *arguments)
        if persistent is None:
            for _ in range(call.num_iters - 1):
                self.middle(grid, *arguments)
        else:
            self._persist(persistent, scores, call, potentials, counters, starts[: len(own)])
        self.last(grid, *arguments)

    def _persist(
        self,
        plan: plans.Persistent,
        scores: Tensor,
        call: Call,
        potentials: int,
        counters: int,
        own: list[int],
    ) -> None:
        """Enqueue ``persistent.cu`` for as many problems at a time as fit the device.

        Args:
            plan: its layout.
            scores: ``(P, N, M)`` whose rows are contiguous.
            call: arguments of the solve.
            potentials: address of the class potentials.
            counters: address of counters that are zero.
            own: addresses of the buffers that :func:`_own_parts` lists.
        """
        p, n, m = scores.shape
        stored, sums, factors, generations = own
        together = min(p, plan.together)
        for first in range(0, p, together):
            self.kernel(
                min(together, p - first) * plan.blocks,
                scores.data_ptr(),
                call.class_address,
                call.sample_address,
                potentials,
                stored,
                sums,
                factors,
                counters,
                generations,
                *scores.stride()[:2],
                n,
                m,
                call.num_iters - 1,
                call.class_stride,
                call.sample_stride,
                first,
                call.scale,
            )


def _own_parts(plan: plans.Persistent, p: int, m: int) -> tuple[int, int, int, int]:
    """Return the number of words of 4 bytes in each buffer of ``persistent.cu``.

    The buffers hold the bfloat16 plan, the sums of blocks, the factors and one generation counter
    per problem. The plan comes first, because it is moved in units of 16 bytes.
    """
    together = min(p, plan.together)
    blocks = together * plan.blocks
    return blocks * plan.stored_bytes // 4, blocks * m, together * m, together
