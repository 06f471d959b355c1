"""Both stages on samples in memory, without a run folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.config.schema import Config
from crkd.data.loader import BatchLoader
from crkd.data.storage.base import ImageStore
from crkd.data.views import Views
from crkd.models.architecture import Architecture
from crkd.models.backbones.features import FeatureBackbone
from crkd.models.network import Network
from crkd.stages.discover.run import student_of
from crkd.stages.discover.task import DiscoveryTask
from crkd.stages.pretrain.run import network_for
from crkd.stages.pretrain.task import SupervisedTask, wants_unlabeled
from crkd.training.loop import Loop

Say = Callable[[str], None]


@dataclass(frozen=True)
class Material:
    """The training data of both stages.

    Attributes:
        labeled: samples of known classes.
        labels: ``(len(labeled),)`` int64 class ids in ``[0, K)``.
        unlabeled: samples of novel classes, or None.
        pretraining: views of stage 1.
        discovery: views of stage 2.
        vectors: ``(N, D)`` all samples if they are feature vectors, else None.
    """

    labeled: ImageStore
    labels: NDArray[np.int64]
    unlabeled: ImageStore | None
    pretraining: Views
    discovery: Views
    vectors: Tensor | None = None

    def supervised_loader(self, config: Config) -> BatchLoader:
        """Return the batches of stage 1."""
        return BatchLoader(
            self.labeled,
            self.labels,
            self.unlabeled if wants_unlabeled(config) else None,
            batch_size=config.pretrain.batch_size,
            views=self.pretraining,
            seed=config.seed,
            device=self.labeled.device,
        )

    def discovery_loader(self, config: Config) -> BatchLoader:
        """Return the batches of stage 2."""
        return BatchLoader(
            self.labeled,
            self.labels,
            self.unlabeled,
            batch_size=config.discover.batch_size,
            labeled_share=config.discover.labeled_share,
            views=self.discovery,
            seed=config.seed,
            device=self.labeled.device,
        )


def stage1(
    material: Material, architecture: Architecture, config: Config, device: torch.device, say: Say
) -> Network:
    """Return a network trained on the labeled samples."""
    network = network_for(config, architecture).to(device)
    if material.vectors is not None:
        assert isinstance(network.backbone, FeatureBackbone)
        network.backbone.fit(material.vectors)
    task = SupervisedTask(network, config, device)
    loader = material.supervised_loader(config)
    Loop(
        task,
        loader,
        config=config,
        optimizer=config.pretrain.optimizer,
        epochs=config.pretrain.epochs,
        run=None,
        device=device,
        say=say,
    ).train()
    return network.eval()


def stage2(
    material: Material,
    architecture: Architecture,
    teacher: Network,
    config: Config,
    device: torch.device,
    say: Say,
) -> tuple[Network, int]:
    """Return the network trained on the novel classes, and its chosen head."""
    student = student_of(config, architecture, teacher, device)
    task = DiscoveryTask(student, teacher, config, device, num_known=architecture.num_known)
    loader = material.discovery_loader(config)
    Loop(
        task,
        loader,
        config=config,
        optimizer=config.discover.optimizer,
        epochs=config.discover.epochs,
        run=None,
        device=device,
        say=say,
    ).train()
    return task.final_network().eval(), task.chosen_head()
