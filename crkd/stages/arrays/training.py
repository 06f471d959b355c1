"""Both stages on samples that lie in memory, without a run folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.config.blocks import OptimizerConfig
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
from crkd.training.step import TrainingStep
from crkd.training.task import Task

Say = Callable[[str], None]


@dataclass(frozen=True)
class Material:
    """What both stages train on.

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
    train(task, loader, config.pretrain.optimizer, config.pretrain.epochs, device, say)
    return network.eval()


def stage2(
    material: Material,
    architecture: Architecture,
    teacher: Network,
    config: Config,
    device: torch.device,
    say: Say,
) -> tuple[Network, int]:
    """Return the network that found the novel classes, and its chosen head."""
    student = student_of(config, architecture, teacher, device)
    task = DiscoveryTask(student, teacher, config, device, num_known=architecture.num_known)
    loader = material.discovery_loader(config)
    train(task, loader, config.discover.optimizer, config.discover.epochs, device, say)
    return task.final_network().eval(), task.chosen_head()


def train(
    task: Task,
    loader: BatchLoader,
    optimizer: OptimizerConfig,
    epochs: int,
    device: torch.device,
    say: Say = lambda line: None,
) -> None:
    """Train a task to the end; nothing is written.

    Args:
        task: the stage.
        loader: its batches.
        optimizer: the stage's settings.
        epochs: passes over the data.
        device: where it computes.
        say: told the loss about ten times.

    Raises:
        RuntimeError: a loss was NaN or infinite.
    """
    per_epoch = loader.steps_per_epoch
    total = epochs * per_epoch
    step = TrainingStep(task, optimizer, total=total, steps_per_epoch=per_epoch, device=device)
    task.modules.train()
    for number, batch in enumerate(loader.batches(0, total)):
        if number % per_epoch == 0:
            task.start_epoch(number // per_epoch)
        step.prepare(number)
        step.compute(batch)
        if (number + 1) % -(-total // 10) == 0:
            say(
                f"{task.stage}: step {number + 1} of {total}, loss {step.totals.take()['loss']:.3f}"
            )
    bad = step.first_bad()
    if bad >= 0:
        raise RuntimeError(
            f"the loss became NaN or infinite at step {bad} of stage {task.stage}; lower the "
            "learning rate, or scale the data"
        )
