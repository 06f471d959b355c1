"""Compression of soft labels.

Shen and Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", ECCV 2022
(section 3.3); the modes are those of its release. Every label takes the same number of bytes, so
that millions of them fit in a few plain tensors.
"""

from __future__ import annotations

import re
from typing import Protocol

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.losses.precision import full

MODES = "hard, smoothed, marginal_smoothing_kN, marginal_renorm_kN, full_float16, full_float32"
_TINY = torch.finfo(torch.float32).tiny

Record = dict[str, Tensor]


class LabelMode(Protocol):
    """Method for compressing probabilities of K classes.

    Attributes:
        bytes_per_label: size of one record.
    """

    bytes_per_label: int

    def compress(self, probabilities: Tensor) -> Record:
        """Return tensors of fixed size for probabilities ``(..., K)``, leading axes kept."""

    def expand(self, record: Record) -> Tensor:
        """Return probabilities ``(..., K)`` in float32 that sum to one."""


class TopClasses:
    """Keeps the most probable classes: ``index`` and, unless the label is hard, ``value``.

    Args:
        keep: k, number of classes kept.
        num_classes: K, above k.
        spread: whether the other classes share the remaining probability equally; otherwise they
            get none, and the kept ones are scaled to sum to one.
        values: False stores only the class numbers (a hard label, with k = 1).
    """

    def __init__(self, keep: int, num_classes: int, *, spread: bool, values: bool = True) -> None:
        self._keep, self._num_classes = keep, num_classes
        self._spread, self._values = spread, values
        self._number = _smallest_integer(num_classes)
        self.bytes_per_label = keep * (self._number.itemsize + 4 * values)

    def compress(self, probabilities: Tensor) -> Record:
        """Return ``index`` ``(..., k)``, best first, and their probabilities in float32."""
        value, index = full(probabilities).topk(self._keep, dim=-1)
        record = {"index": index.to(self._number)}
        if self._values:
            if not self._spread:
                value = value / value.sum(dim=-1, keepdim=True)
            record["value"] = value.float()
        return record

    def expand(self, record: Record) -> Tensor:
        """Return the kept probabilities unchanged, and the others' share of the rest."""
        index = record["index"].long()
        value = record["value"] if self._values else index.new_ones(index.shape).float()
        rest = torch.zeros_like(value[..., :1])
        if self._spread:
            left = 1 - value.sum(dim=-1, keepdim=True)
            rest = left.clamp(min=0) / (self._num_classes - self._keep)
        everywhere = rest.expand(*rest.shape[:-1], self._num_classes)
        return everywhere.scatter(-1, index, value)


class WholeVector:
    """Keeps every class: ``below``, its log-probability minus that of the best class.

    The best class is 0 and exact. The rounding error is relative to the distance from it, so
    probabilities too small for half precision are preserved.

    Args:
        num_classes: K.
        dtype: float16 or float32.
    """

    def __init__(self, num_classes: int, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self.bytes_per_label = num_classes * dtype.itemsize

    def compress(self, probabilities: Tensor) -> Record:
        """Return ``below`` ``(..., K)``, at most 0."""
        logs = log_probabilities(probabilities)
        return {"below": (logs - logs.amax(dim=-1, keepdim=True)).to(self._dtype)}

    def expand(self, record: Record) -> Tensor:
        """Return the softmax of the stored values."""
        return record["below"].float().softmax(dim=-1)


def log_probabilities(probabilities: Tensor) -> Tensor:
    """Return the logarithm; for a probability of zero a finite value, about -87.

    >>> log_probabilities(torch.tensor([1.0, 0.0])).round().tolist()
    [0.0, -87.0]
    """
    return full(probabilities).clamp(min=_TINY).log()


def label_mode(name: str, num_classes: int) -> LabelMode:
    """Return the mode called ``name`` for K classes.

    Args:
        name: one of ``MODES``, where N is the number of classes to keep.
        num_classes: K, at least 1.

    Raises:
        InputError: the mode is unknown, or keeps all classes.
    """
    if name == "full_float16":
        return WholeVector(num_classes, torch.float16)
    if name == "full_float32":
        return WholeVector(num_classes, torch.float32)
    if name == "hard":
        return TopClasses(1, num_classes, spread=False, values=False)
    marginal = re.fullmatch(r"marginal_(smoothing|renorm)_k([1-9][0-9]*)", name)
    if marginal is None and name != "smoothed":
        raise InputError(f"label_mode {name!r} is unknown; choose one of: {MODES}")
    keep = int(marginal[2]) if marginal else 1
    if keep >= num_classes:
        raise InputError(
            f"label_mode {name!r} keeps {keep} of {num_classes} classes, which leaves none for the "
            "rest; choose full_float16, or a smaller number of classes"
        )
    return TopClasses(keep, num_classes, spread=marginal is None or marginal[1] == "smoothing")


def _smallest_integer(count: int) -> torch.dtype:
    for dtype in (torch.uint8, torch.int16):
        if count - 1 <= torch.iinfo(dtype).max:
            return dtype
    return torch.int32
