"""The recipe of FRoST as a task of the training loop: the baseline of incremental steps.

Roy et al., "Class-incremental Novel Class Discovery", ECCV 2022, section 3, with the weights of
its released code for CIFAR-100.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.config.schema import Config
from crkd.core.seeding import seeded
from crkd.core.types import Batch, HeadOutputs
from crkd.losses.distillation.features import Features
from crkd.losses.rank_statistics import pairwise_agreement, same_ranks
from crkd.losses.term import DistillationInputs
from crkd.models.network import Network, freeze
from crkd.stages.discover.feature_replay import FeatureReplay, classified
from crkd.training.compilation import compiled
from crkd.training.precision import autocast
from crkd.training.task import Task

TOP_FEATURES = 5
CONSISTENCY = 25.0
FEATURE_WEIGHT = 10.0
RAMP_SHARE = 0.5
"""Share of the epochs over which self-training and consistency rise; the release has 300 of its
300 epochs for CIFAR-100 and half of them elsewhere."""


class FrostModules(nn.Module):
    """The trained and saved modules.

    Args:
        network: the student; one joint head predicts old and new classes.
        clusters: the head of the novel classes alone, which teaches the joint one.
        replay: features of the known classes.
    """

    rise: Tensor
    """Weight in [0, 1] of what rises over the first epochs."""

    def __init__(self, network: Network, clusters: nn.Module, replay: FeatureReplay | None) -> None:
        super().__init__()
        self.network, self.clusters, self.replay = network, clusters, replay
        self.register_buffer("rise", torch.zeros(()), persistent=False)


class FrostTask(Task):
    """Ranking statistics, self-training of a joint head, feature distillation and replay.

    A separate head clusters the novel images: pairs whose five largest features are the same
    should be of one class. Its first choices are the pseudo-labels of the joint head. Old classes
    are held by the distance of the features to the earlier network's (the batch form of
    :class:`crkd.losses.distillation.features.Features`) and by replayed features.

    Args:
        network: the student, with a joint head.
        teacher_source: the earlier network.
        config: the run's configuration.
        device: where it computes.
        num_novel: M.
        replay: features of known classes without images.
    """

    stage = "discover"
    modules: FrostModules

    def __init__(
        self,
        network: Network,
        teacher_source: Network,
        config: Config,
        device: torch.device,
        *,
        num_novel: int,
        replay: FeatureReplay | None,
    ) -> None:
        self.config, self.device = config, device
        self.teacher_network = freeze(teacher_source).to(device)
        width = network.backbone.num_features
        with seeded(config.seed):
            clusters = nn.Linear(width, num_novel)
        self.modules = FrostModules(network, clusters, replay).to(device)
        self._features = Features(width, width, form="batch")
        self._forward = compiled(network, config.loop)
        self._teacher = compiled(self.teacher_network, config.loop)

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of all terms, and each term for the log."""
        modules, views = self.modules, batch.views[: batch.num_large]
        drawn = None if modules.replay is None else modules.replay()
        with autocast(self.config.loop.precision, self.device):
            student = self._forward(
                views, replayed=None if drawn is None else drawn[0], shard=batch.shard
            )
            with torch.no_grad():
                teacher = self._teacher(views, shard=batch.shard)
            new = student.features[:2, batch.num_labeled :]
            first, second = modules.clusters(new).float()
        named = {
            "ranks": pairwise_agreement(first, second, same_ranks(new[0], TOP_FEATURES)),
            "consistency": F.mse_loss(first.softmax(dim=-1), second.softmax(dim=-1)),
            "self_training": self._self_training(student, first, batch),
            "features": self._features(DistillationInputs(student, teacher)),
        }
        loss = named["ranks"] + FEATURE_WEIGHT * named["features"]
        loss = loss + modules.rise * (CONSISTENCY * named["consistency"] + named["self_training"])
        if drawn is not None and student.replayed is not None:
            named["replay"] = classified(student.replayed, drawn[1]).mean()
            loss = loss + named["replay"]
        return loss, named

    def _self_training(self, student: HeadOutputs, clusters: Tensor, batch: Batch) -> Tensor:
        """Return the joint head's cross-entropy to labels, and to the clusters of new images."""
        joint = student.joint_logits()[:, 0].float()
        found = student.known_logits.shape[-1] + clusters.detach().argmax(dim=-1)
        targets = torch.cat([batch.labels[: batch.num_labeled], found])
        return F.cross_entropy(joint.flatten(0, 1), targets.repeat(len(joint)))

    def after_step(self) -> None:
        """Bring the prototypes back to unit length."""
        self.modules.network.normalize_prototypes()

    def final_network(self) -> Network:
        """Return the network for evaluation after training."""
        return self.modules.network

    def start_epoch(self, epoch: int) -> None:
        """Raise the weights: exp(-5 (1 - t)^2), as in AutoNovel."""
        t = min(1.0, epoch / max(1.0, RAMP_SHARE * self.config.discover.epochs))
        self.modules.rise.fill_(math.exp(-5.0 * (1.0 - t) ** 2))

    def chosen_head(self) -> int:
        """Return 0: there is one head."""
        return 0
