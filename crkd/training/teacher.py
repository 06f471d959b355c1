"""Sources of the teacher's outputs on a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from crkd.config.blocks import LoopConfig
from crkd.core.types import Batch, HeadOutputs
from crkd.losses.term import DistillationTerm
from crkd.models.network import Network
from crkd.training.compilation import compiled
from crkd.training.precision import autocast


class Teacher(Protocol):
    """Gives the frozen teacher's outputs on the large views of a batch."""

    def __call__(self, batch: Batch, first: int) -> HeadOutputs:
        """Return the outputs on the rows ``[first, B)``, without gradients."""


class LiveTeacher:
    """Runs the teacher's network.

    Args:
        network: frozen, in evaluation mode, on the device.
        settings: precision and compilation.
        maps: whether some term looks at feature maps.
        device: where it computes.
    """

    def __init__(
        self, network: Network, settings: LoopConfig, *, maps: bool, device: torch.device
    ) -> None:
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device, self._maps = device, maps
        self._precision = settings.precision
        self._forward = compiled(network, settings)

    def __call__(self, batch: Batch, first: int) -> HeadOutputs:
        """Return the outputs on the rows ``[first, B)``, without gradients."""
        views = batch.views[: batch.num_large]
        # Rows of a batch that several processes divide can be left out after gathering alone.
        skipped = first if batch.shard is None else 0
        with torch.no_grad(), autocast(self._precision, self.device):
            outputs: HeadOutputs = self._forward(
                [view[skipped:] for view in views], maps=self._maps, shard=batch.shard
            )
        return outputs.rows(first - skipped)


class FixedTeacher:
    """Gives the outputs of whole images for every view of an image.

    A view of the student is compared with the outputs of the image that it was cut from. Beyer et
    al., "Knowledge Distillation: A Good Teacher is Patient and Consistent", CVPR 2022, call this a
    fixed teacher.

    Args:
        logits: ``(N, C)`` of all samples, in the order of the loader's sample numbers.
    """

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    @property
    def num_classes(self) -> int:
        """C."""
        return self._logits.shape[1]

    def __call__(self, batch: Batch, first: int) -> HeadOutputs:
        """Return known logits of the rows ``[first, B)``, and features of length 0."""
        known = self._logits.index_select(0, batch.sample_id[first:])
        known = known.expand(batch.num_large, -1, -1)
        return HeadOutputs(known.new_zeros(*known.shape[:2], 0), known)


def needs_of(terms: Iterable[DistillationTerm]) -> frozenset[str]:
    """Return everything that some of ``terms`` needs."""
    return frozenset().union(*(term.needs for term in terms))
