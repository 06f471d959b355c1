"""Batch shards: the rows of a batch that one of several processes holds.

Every process computes the loss of the whole batch, from the gathered features of all processes.
Only the backbone, which takes nearly all of the time, is restricted to the process's own rows.
Every loss, the balanced assignment and every average over the batch are therefore the same as
in one process.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from crkd.core.errors import InputError


class BatchShard(NamedTuple):
    """The rows of a batch, labeled ones first, that each of several processes holds.

    Attributes:
        rank: this process, counted from 0.
        size: number of processes.
        counts: labeled and unlabeled rows of the whole batch.
    """

    rank: int
    size: int
    counts: tuple[int, int]

    def bounds(self, kind: int, rank: int | None = None) -> slice:
        """Return a process's rows among those of one kind, 0 for labeled and 1 for unlabeled.

        >>> [BatchShard(0, 2, (5, 8)).bounds(0, rank) for rank in range(2)]
        [slice(0, 2, None), slice(2, 5, None)]
        """
        rank, count = self.rank if rank is None else rank, self.counts[kind]
        return slice(count * rank // self.size, count * (rank + 1) // self.size)

    def own(self, values: Tensor, dim: int = 0) -> Tensor:
        """Return this process's rows of values ``(..., B, ...)`` of the whole batch."""
        kinds = torch.split(values, list(self.counts), dim)
        rows = [self.bounds(kind) for kind in range(2)]
        return torch.cat(
            [
                part.narrow(dim, own.start, own.stop - own.start)
                for part, own in zip(kinds, rows, strict=True)
            ],
            dim,
        )

    def gather(self, values: Tensor, dim: int = 0) -> Tensor:
        """Return values of the whole batch, gathered from all processes.

        Gradients are multiplied by the number of processes. Each process holds the whole loss,
        but only its own rows' part of the backbone's gradient. The mean over the processes is
        therefore correct for the backbone and for the layers after it.

        Args:
            values: ``(..., own rows, ...)``.
            dim: the dimension of the rows.
        """
        gathered: Tensor = _Gather.apply(values, self, dim)  # type: ignore[no-untyped-call]
        return gathered

    def _lengths(self, rank: int) -> list[int]:
        return [(own := self.bounds(kind, rank)).stop - own.start for kind in range(2)]

    def _collect(self, values: Tensor, dim: int) -> Tensor:
        rows = values.movedim(dim, 0).contiguous()
        lengths = [self._lengths(rank) for rank in range(self.size)]
        # All processes must send equally many rows.
        padded = rows.new_zeros(max(map(sum, lengths)), *rows.shape[1:])
        padded[: len(rows)] = rows
        received = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(received, padded)
        parts = [
            torch.split(part[: sum(own)], own) for part, own in zip(received, lengths, strict=True)
        ]
        whole = torch.cat([part[kind] for kind in range(2) for part in parts])
        return whole.movedim(0, dim)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, shard: BatchShard, dim: int) -> Tensor:
        ctx.shard, ctx.dim = shard, dim
        return shard._collect(values, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.shard.own(gradients[0], ctx.dim) * ctx.shard.size, None, None


def processes() -> tuple[int, int]:
    """Return the rank of this process and the number of processes; (0, 1) for a single one."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def own_rows(count: int) -> range:
    """Return which of ``count`` rows this process handles; the shares follow the ranks.

    >>> own_rows(5)
    range(0, 5)
    """
    rank, size = processes()
    return range(count * rank // size, count * (rank + 1) // size)


def shard_of(counts: tuple[int, int]) -> BatchShard | None:
    """Return this process's shard of a batch; None for a single process.

    Args:
        counts: labeled and unlabeled rows of a batch.

    Raises:
        InputError: a process would have no row of one kind.
    """
    rank, size = processes()
    if size == 1:
        return None
    if any(0 < count < size for count in counts):
        raise InputError(
            f"a batch of {counts[0]} labeled and {counts[1]} unlabeled images cannot be divided "
            f"among {size} processes; raise batch_size or start fewer"
        )
    return BatchShard(rank, size, counts)
