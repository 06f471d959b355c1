"""Launch sequence of the Triton kernels for one solve. Importing this module imports Triton."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crkd.ot.triton.class_potentials import class_potentials
from crkd.ot.triton.class_sums import class_sums
from crkd.ot.triton.iteration import iteration
from crkd.ot.triton.plans import Plan
from crkd.ot.triton.sample_step import sample_step

_OPTIONS: dict[str, int] = {"enable_fp_fusion": True}
"""Options of the compiler, whose defaults depend on Triton's version."""


class Call(NamedTuple):
    """Arguments of one solve besides its scores.

    Attributes:
        num_iters: iterations, at least 1.
        scale: log2(e) / epsilon.
        power: power of the class step; None for an exact step.
        class_marginal: ``(M,)`` or ``(P, M)`` float32, contiguous, or None.
        sample_marginal: ``(N,)`` or ``(P, N)`` float32, contiguous, or None.
    """

    num_iters: int
    scale: float
    power: float | None = None
    class_marginal: Tensor | None = None
    sample_marginal: Tensor | None = None


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
        None if relaxation is None else relaxation / (relaxation + epsilon),
        class_marginal,
        sample_marginal,
    )


def solve_into(out: Tensor, scores: Tensor, call: Call, plan: Plan) -> None:
    """Enqueue the launches of one solve on the current stream of the current device.

    With T iterations there are 2 T + 1 launches, or 3 T if a row needs several tiles.

    Args:
        out: ``(P, N, M)`` contiguous, receives the assignment.
        scores: ``(P, N, M)`` whose rows are contiguous, not empty.
        call: other arguments.
        plan: tiles for N and M.
    """
    solve = _Solve(out, scores, call, plan)
    solve.class_step(first=True)
    for _ in range(call.num_iters - 1):
        solve.class_step(first=False)
    solve.sample_step(out, last=True)


class _Solve:
    """Buffers and launches of one solve; the buffers live until the last launch is enqueued."""

    def __init__(self, out: Tensor, scores: Tensor, call: Call, plan: Plan) -> None:
        self.scores, self.call, self.plan = scores, call, plan
        p, self.n, self.m = scores.shape
        self.problems = p
        parts = (p * self.m, p * self.m, *[p * plan.chunks * self.m] * 2, plan.wide * p * self.n)
        workspace = torch.empty(sum(parts), dtype=torch.float32, device=scores.device)
        self.shifts, self.potentials, self.sums, self.tops, self.rows = workspace.split_with_sizes(
            parts
        )
        self.tile = _OPTIONS | {"ROWS": plan.rows, "COLUMNS": plan.columns, "num_warps": plan.warps}
        a, b = call.sample_marginal, call.class_marginal
        self.sample_stride = self.n if a is not None and a.ndim == 2 else 0
        self.class_stride = self.m if b is not None and b.ndim == 2 else 0

    def class_step(self, *, first: bool) -> None:
        """Set the class potentials; before all but the first step, scale the samples."""
        plan, call = self.plan, self.call
        relaxed = call.power is not None
        if first or plan.wide:
            if not first:
                self.sample_step(self.rows, last=False)
            self._class_sums(first=first)
        else:
            self._iteration(relaxed=relaxed)
        # A middle step counts each sample of a uniform marginal as one.
        counts_ones = not first and call.sample_marginal is None
        class_potentials[(self.problems, _blocks(self.m, plan.chunk_columns))](
            self.sums,
            self.tops,
            self.shifts,
            self.potentials,
            call.class_marginal,
            self.class_stride,
            self.m,
            plan.chunks,
            call.scale,
            1.0 if call.power is None else call.power,
            1.0 / self.n if counts_ones else 1.0,
            FIRST=first,
            PAIRS=first or plan.wide or relaxed,
            RELAXED=relaxed,
            CHUNK_ROWS=plan.chunk_rows,
            CHUNK_COLUMNS=plan.chunk_columns,
            **_OPTIONS,
        )

    def _class_sums(self, *, first: bool) -> None:
        plan = self.plan
        class_sums[(self.problems * plan.chunks, _blocks(self.m, plan.columns))](
            self.scores,
            self.shifts,
            self.rows,
            self.call.sample_marginal,
            self.sums,
            self.tops,
            *self.scores.stride()[:2],
            self.sample_stride,
            self.n,
            self.m,
            plan.chunks,
            plan.rows_per_chunk,
            self.call.scale,
            FIRST=first,
            **self.tile,
        )

    def _iteration(self, *, relaxed: bool) -> None:
        plan = self.plan
        iteration[(self.problems * plan.chunks,)](
            self.scores,
            self.shifts,
            self.potentials,
            self.call.sample_marginal,
            self.sums,
            self.tops,
            *self.scores.stride()[:2],
            self.sample_stride,
            self.n,
            self.m,
            plan.chunks,
            plan.rows_per_chunk,
            self.call.scale,
            RELAXED=relaxed,
            **self.tile,
        )

    def sample_step(self, result: Tensor, *, last: bool) -> None:
        """Write the assignment, or the potentials of the samples."""
        plan, call = self.plan, self.call
        row_blocks = _blocks(self.n, plan.rows)
        sample_step[(self.problems * row_blocks,)](
            self.scores,
            self.shifts,
            self.potentials,
            call.class_marginal,
            call.sample_marginal,
            result,
            *self.scores.stride()[:2],
            self.class_stride,
            self.sample_stride,
            self.n,
            self.m,
            row_blocks,
            call.scale,
            LAST=last,
            WIDE=plan.wide,
            **self.tile,
        )


def _blocks(size: int, block: int) -> int:
    return -(-size // block)
