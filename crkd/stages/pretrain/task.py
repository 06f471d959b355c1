"""Stage 1 as a task of the training loop: cross-entropy on the known classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.core.types import Batch
from crkd.losses.supervised import cross_entropy
from crkd.losses.term import TERMS, DistillationInputs
from crkd.models.network import Network
from crkd.training.compilation import compiled
from crkd.training.loss_terms import Terms, context_of, supervised_weight
from crkd.training.precision import autocast
from crkd.training.task import Task


class SupervisedModules(nn.Module):
    """Modules that stage 1 trains or saves.

    Args:
        network: the network.
        terms: the distillation terms; some have modules of their own.
    """

    def __init__(self, network: Network, terms: Terms) -> None:
        super().__init__()
        self.network = network
        self.terms = terms


class SupervisedTask(Task):
    """Cross-entropy of the known head over all views, and the terms that need no teacher.

    Args:
        network: the network to train.
        config: the run's configuration.
        device: where it computes.

    Raises:
        InputError: a configured term does not exist or does not apply here.
    """

    stage = "pretrain"
    modules: SupervisedModules

    def __init__(self, network: Network, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.settings = config.pretrain
        wanted = self.settings.distillation
        assert network.num_known is not None
        terms = Terms(
            wanted,
            stage=self.stage,
            context=context_of(network, network, None, network.num_known),
            seed=config.seed,
            epochs=self.settings.epochs,
        )
        self.modules = SupervisedModules(network, terms).to(device)
        self._weight = supervised_weight(self.settings.supervised_weight, wanted)
        self._forward = compiled(network, config.loop)

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and the training accuracy and each term for the log."""
        with autocast(self.config.loop.precision, self.device):
            outputs = self._forward(batch.views, shard=batch.shard)
        logits = outputs.known_logits[:, : batch.num_labeled]
        labels = batch.labels[: batch.num_labeled]
        supervised = cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
        loss = self._weight * supervised
        right = (logits.detach().argmax(-1) == labels).float().mean()
        named = {"train_acc": right}
        if len(self.modules.terms):
            inputs = DistillationInputs(outputs, None, batch.labels, batch.num_labeled)
            distilled, terms = self.modules.terms(inputs)
            loss = loss + distilled
            named |= {"supervised": supervised, **terms}
        return loss, named

    def after_step(self) -> None:
        """Bring the prototypes back to unit length."""
        self.modules.network.normalize_prototypes()

    def start_epoch(self, epoch: int) -> None:
        """Let the terms know the epoch."""
        self.modules.terms.set_epoch(epoch)


def wants_unlabeled(config: Config) -> bool:
    """Return whether the unlabeled samples join stage 1.

    Raises:
        InputError: they should, but no term looks at them.
    """
    settings = config.pretrain
    if settings.unlabeled and all(TERMS.get(term.name).needs for term in settings.distillation):
        raise InputError(
            "pretrain.unlabeled is true, but no loss of stage 1 looks at unlabeled images; add "
            "pretrain.distillation: [{name: contrastive}], or set it to false"
        )
    return settings.unlabeled
