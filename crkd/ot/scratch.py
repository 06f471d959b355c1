"""Memory and matrix products of plain scaling, with bits that do not depend on the batch."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

CACHED = 1 << 20
"""Number of entries processed at once. Several problems then share one operation, and all stay in a
processor's last cache."""

GROUP = 1 << 12
"""Largest number of entries of the samples whose exponentials are divided by one sum."""

ALIGNED = 16
"""Lengths are padded to a multiple of this: 64 bytes of float32. Elsewhere, matrix libraries sum in
an order that depends on the address."""

_kept = threading.local()
"""Memory of this thread's last call, which saves the next one of the same size page faults."""


class Scratch:
    """Kernel, factors and sums of P problems of one size ``(N, M)``.

    Columns from M on belong to no class. There is at least one. Vectors are rows, because PyTorch
    multiplies a row by a matrix several times faster than a matrix by a column.

    Attributes:
        kernel: ``(P, N, W)``, W > M, contiguous.
        classes: ``(P, N, M)``, the part of the kernel that belongs to classes.
        rest: ``(P, N, W - M)``, the other part.
        padding: ``(P, 1, N)``, the first column of ``rest``.
        groups: ``(P * N / R, R * W)``, the kernel with R samples in one row.
        u: ``(P, 1, N)``, factors of samples.
        v: ``(P, 1, W)``, factors of classes.
        v_of_classes: ``(P, 1, M)``, the part of v that belongs to classes.
        rows: ``(P, 1, N)``, set by :meth:`sum_rows`.
        per_sample: ``(P, N, 1)``, the same.
        columns: ``(P, 1, W)``, set by :meth:`sum_columns`.
        equal_samples: ``(1, 1, 1)``, 1 / N.
        equal_classes: ``(1, 1, W)``, 1 / M for classes, otherwise 0.
    """

    def __init__(self, kernel: Tensor, m: int, u: Tensor, v: Tensor, rows: Tensor, columns: Tensor):
        _, n, width = kernel.shape
        self.kernel, self.classes, self.rest = kernel, kernel[:, :, :m], kernel[:, :, m:]
        self.padding = self.rest[:, :, :1].mT
        self.groups = kernel.view(-1, _group(n, width) * width)
        self.u, self.v, self.rows, self.columns = u, v, rows, columns
        self.v_of_classes, self.per_sample = v[:, :, :m], rows.mT
        self.equal_samples = kernel.new_full((1, 1, 1), 1 / n)
        self.equal_classes = kernel.new_zeros(1, 1, width)
        self.equal_classes[:, :, :m] = 1 / m
        self._transposed = kernel.mT

    @classmethod
    def of_problems(cls, p: int, n: int, m: int, dtype: torch.dtype) -> Scratch:
        """Return memory for ``p`` problems, :func:`together` at most.

        It holds any values, and belongs to the caller until the thread's next call.
        """
        size = (n, m, dtype)
        if getattr(_kept, "size", None) != size or p > len(_kept.scratch):
            _kept.size = _kept.scratch = None
            # Memory of inference mode could not be used outside of it.
            with torch.inference_mode(False), torch.device("cpu"):
                made = cls._new(p, *size)
            if made.kernel.numel() > CACHED:
                return made
            _kept.size, _kept.scratch = size, made
        kept: Scratch = _kept.scratch
        return kept.first(p)

    @classmethod
    def _new(cls, p: int, n: int, m: int, dtype: torch.dtype) -> Scratch:
        width, length = _padded(m + 1), _padded(n)
        kernel = torch.empty(p, n, width, dtype=dtype)
        # Results with gaps are written one problem at a time, each to an aligned address.
        u, rows = torch.empty(2, p, 1, length, dtype=dtype)[..., :n]
        v, columns = torch.empty(2, p, 1, width, dtype=dtype)
        return cls(kernel, m, u, v, rows, columns)

    def __len__(self) -> int:
        """Return P."""
        return len(self.kernel)

    def first(self, count: int) -> Scratch:
        """Return the memory of the first ``count`` problems."""
        if count == len(self):
            return self
        kernel, u, v, rows, columns = (
            tensor[:count] for tensor in (self.kernel, self.u, self.v, self.rows, self.columns)
        )
        return Scratch(kernel, self.classes.shape[2], u, v, rows, columns)

    def sum_rows(self) -> None:
        """Set ``rows`` to the sums over classes of the kernel times v."""
        torch.bmm(self.v, self._transposed, out=self.rows)

    def sum_columns(self) -> None:
        """Set ``columns`` to the sums over samples of the kernel times u."""
        torch.bmm(self.u, self.kernel, out=self.columns)


def together(n: int, m: int) -> int:
    """Return the largest number of problems to solve at once."""
    return max(1, CACHED // (n * _padded(m + 1)))


def _padded(length: int) -> int:
    return -(-length // ALIGNED) * ALIGNED


def _group(n: int, width: int) -> int:
    """Return R, which divides N."""
    return next(r for r in range(min(n, max(1, GROUP // width)), 0, -1) if n % r == 0)
