"""Launch sequences of the kernel families for one solve."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from crkd.ot.cuda import launches, plans
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
    """Enqueues the single launch of ``resident.cu``.

    Attributes:
        kernel: the planned layout.
        dense: the layout of two problems per multiprocessor, with the same bits; None if they do
            not fit, or if ``kernel`` has room for two as well.
        at_once: number of problems above which ``dense`` is used.
    """

    def __init__(self, kind: Kind, plan: plans.Resident) -> None:
        self.kernel = Kernel(kind, "resident", plan, plan.constants, cluster=plan.cluster)
        self.dense: Kernel | None = None
        self.at_once = self.kernel.clusters_at_once()
        dense = plans.two_per_multiprocessor(plan, launches.device(kind.device))
        if dense is not None and self.kernel.blocks_per_multiprocessor() < 2:
            kernel = Kernel(kind, "resident", dense, dense.constants, cluster=dense.cluster)
            if kernel.clusters_at_once() > self.at_once:
                self.dense = kernel

    def __call__(self, scores: Tensor, out: Tensor, call: Call) -> None:
        """Enqueue the launch for scores ``(P, N, M)`` whose rows are contiguous."""
        p, n, m = scores.shape
        stride = scores.stride()
        kernel = self.kernel if self.dense is None or p <= self.at_once else self.dense
        kernel(
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


class PersistentRun:
    """Enqueues ``persistent.cu`` for as many problems at a time as fit the device.

    Attributes:
        together: that number; 0 if the device cannot run all blocks of one problem at once.
    """

    def __init__(self, kind: Kind, plan: plans.Persistent) -> None:
        self.plan = plan
        self.kernel = Kernel(
            kind, "persistent", plan, plan.constants, cluster=plan.cluster, cooperative=True
        )
        self.together = plan.together
        if plan.cluster > 1:
            fitting = self.kernel.clusters_at_once() * plan.cluster // plan.blocks
            self.together = min(self.together, fitting)

    def buffers(self, p: int, m: int) -> tuple[int, int, int]:
        """Return the words of 4 bytes of each buffer: the bfloat16 plan, the sums and the factors.

        The plan is moved in units of 16 bytes, so it comes first. Clusters keep no factors.
        """
        plan, together = self.plan, min(p, self.together)
        stored = together * plan.blocks * plan.stored_bytes // 4
        return stored, together * plan.sums * m, together * m if plan.cluster == 1 else 0

    def counters(self, p: int) -> int:
        """Return the number of counters, which are 0 before the first launch."""
        return p * self.plan.cluster

    def __call__(
        self, scores: Tensor, call: Call, potentials: int, counters: int, buffers: list[int]
    ) -> None:
        """Enqueue the launches.

        Args:
            scores: ``(P, N, M)`` whose rows are contiguous.
            call: arguments of the solve.
            potentials: address of the class potentials.
            counters: address of the counters.
            buffers: addresses of the buffers.
        """
        p, n, m = scores.shape
        plan, together = self.plan, min(p, self.together)
        for first in range(0, p, together):
            self.kernel(
                min(together, p - first) * plan.blocks // plan.cluster,
                scores.data_ptr(),
                call.class_address,
                call.sample_address,
                potentials,
                *buffers,
                counters,
                *scores.stride()[:2],
                n,
                m,
                call.num_iters - 1,
                call.class_stride,
                call.sample_stride,
                first,
                call.scale,
            )


class StreamingRun:
    """Enqueues the T + 1 launches of ``streaming.cu``.

    If there are enough iterations, ``persistent`` runs those between the first class step and the
    result.
    """

    def __init__(
        self, kind: Kind, plan: plans.Streaming, persistent: PersistentRun | None = None
    ) -> None:
        self.plan, self.persistent = plan, persistent
        self.first, self.middle, self.last = (
            Kernel(kind, "streaming", plan, plan.constants(step))
            for step in (0, 2 if kind.relaxed else 1, 3)
        )

    def __call__(self, scores: Tensor, out: Tensor, call: Call) -> None:
        """Enqueue the launches for scores ``(P, N, M)`` whose rows are contiguous."""
        p, n, m = scores.shape
        plan = self.plan
        persistent = self.persistent if call.num_iters >= SHORT_FROM else None
        own = () if persistent is None else persistent.buffers(p, m)
        counts = p * (plan.groups + 1), 0 if persistent is None else persistent.counters(p)
        parts = (*own, 2 * p * m, 2 * p * plan.chunks * m, 2 * p * plan.groups * m, *counts)
        # One tensor holds all buffers until the last launch is enqueued. Memory freed earlier could
        # be reused by the next allocation, and memory kept for later calls could belong to the
        # private pool of a CUDA graph.
        workspace = torch.empty(sum(parts), dtype=torch.int32, device=scores.device)
        workspace[-sum(counts) :].zero_()
        starts = [workspace.data_ptr() + 4 * words for words in accumulate(parts, initial=0)]
        potentials, chunk_sums, group_sums, counters, own_counters, _ = starts[len(own) :]
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
            persistent(scores, call, potentials, own_counters, starts[: len(own)])
        self.last(grid, *arguments)
