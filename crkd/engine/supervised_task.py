"""Stage 1 as a task of the training loop: cross-entropy on the known classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from crkd.config.schema import Config
from crkd.core.types import Batch
from crkd.engine.precision import autocast
from crkd.losses.supervised import cross_entropy
from crkd.models.network import Network


class SupervisedTask:
    """Cross-entropy of the known head over all views.

    Args:
        network: the network to train.
        config: the run's configuration.
        device: where it computes.
    """

    stage = "pretrain"

    def __init__(self, network: Network, config: Config, device: torch.device) -> None:
        self.modules = network
        self.config, self.device = config, device
        self._forward = torch.compile(network) if config.loop.compile else network

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy, and the training accuracy for the log."""
        with autocast(self.config.loop.precision, self.device):
            outputs = self._forward(batch.views)
        loss = cross_entropy(
            outputs.known_logits,
            batch.labels,
            label_smoothing=self.config.pretrain.label_smoothing,
        )
        right = (outputs.known_logits.detach().argmax(-1) == batch.labels).float().mean()
        return loss, {"train_acc": right}

    def after_step(self) -> None:
        """Bring the prototypes back to unit length."""
        self.modules.normalise_prototypes()

    def start_epoch(self, epoch: int) -> None:
        """Nothing depends on the epoch."""

    def resume_epoch(self, epoch: int) -> None:
        """Nothing depends on the epoch."""

    def remark(self, means: Mapping[str, float]) -> str | None:
        """Nothing in these figures needs a word."""
        return None
