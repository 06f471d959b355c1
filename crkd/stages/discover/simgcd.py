"""SimGCD as a task of the training loop: the parametric baseline of generalized discovery.

Wen et al., "Parametric Classification for Generalized Category Discovery: A Baseline Study", ICCV
2023, section 4, with the weights and temperatures of its released code (CVMI-Lab/SimGCD, f843f27).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from crkd.config.schema import Config
from crkd.core.seeding import seeded
from crkd.core.types import Batch
from crkd.losses.simgcd import entropy_gap, self_distillation
from crkd.losses.supervised import cross_entropy
from crkd.losses.view_contrast import contrast, supervised_contrast
from crkd.models.network import Network
from crkd.training.compilation import compiled
from crkd.training.precision import autocast
from crkd.training.task import Task

SUPERVISED_WEIGHT = 0.35
CONTRAST_TEMPERATURE = 1.0
SUPERVISED_CONTRAST_TEMPERATURE = 0.07
TEACHER_TEMPERATURES = (0.07, 0.04)
"""At the start, and after the warm-up."""
WARMUP_EPOCHS = 30
"""Epochs of the teacher temperature's cosine schedule. It is linear in the release."""


class SimgcdModules(nn.Module):
    """The trained and saved modules.

    Args:
        network: the student; one joint head predicts known and novel classes.
        projector: features to the inputs of the contrastive terms.
    """

    sharpening: Tensor
    """Student temperature over teacher temperature."""

    def __init__(self, network: Network, projector: nn.Module) -> None:
        super().__init__()
        self.network, self.projector = network, projector
        self.register_buffer("sharpening", torch.ones(()), persistent=False)


class SimgcdTask(Task):
    """One prototype classifier of all classes, self-distillation and contrastive terms.

    With w = 0.35::

        loss = (1 - w) (distillation + entropy_weight * gap + contrast)
               + w (cross-entropy + supervised contrast)

    Distillation, gap and contrast see all rows of a batch, the others the labeled ones. Small views
    take part in the distillation alone. The student's temperature is that of the head.

    Differences from the release: the backbone and the prototypes of the known classes start from
    stage 1 instead of DINO, the optimizer and the views are the configured ones, and weight decay
    is on all weights.

    Args:
        network: the student, with a joint head.
        config: the run's configuration.
        device: where it computes.
    """

    stage = "discover"
    modules: SimgcdModules

    def __init__(self, network: Network, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        with seeded(config.seed):
            made = projector(
                network.backbone.num_features, config.model.hidden, config.model.projection
            )
        self.modules = SimgcdModules(network, made).to(device)
        self._forward = compiled(network, config.loop)

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of all terms, and each term for the log."""
        modules, large, labeled = self.modules, batch.num_large, batch.num_labeled
        with autocast(self.config.loop.precision, self.device):
            student = self._forward(batch.views, shard=batch.shard)
            projected = modules.projector(student.features[:large])
        joint, labels = student.joint_logits()[:, 0], batch.labels[:labeled]
        named = {
            "distillation": self_distillation(joint, modules.sharpening, large),
            "entropy_gap": entropy_gap(joint[:large]),
            "contrast": contrast(projected, CONTRAST_TEMPERATURE),
            "supervised": cross_entropy(joint[:large, :labeled], labels),
            "supervised_contrast": supervised_contrast(
                projected[:, :labeled], labels, SUPERVISED_CONTRAST_TEMPERATURE
            ),
        }
        on_all = (
            named["distillation"]
            + self.config.discover.entropy_weight * named["entropy_gap"]
            + named["contrast"]
        )
        on_labeled = named["supervised"] + named["supervised_contrast"]
        return (1 - SUPERVISED_WEIGHT) * on_all + SUPERVISED_WEIGHT * on_labeled, named

    def after_step(self) -> None:
        """Bring the prototypes back to unit length."""
        self.modules.network.normalize_prototypes()

    def final_network(self) -> Network:
        """Return the network for evaluation after training."""
        return self.modules.network

    def start_epoch(self, epoch: int) -> None:
        """Set the temperature of the teacher."""
        temperature = teacher_temperature(epoch / WARMUP_EPOCHS)
        self.modules.sharpening.fill_(self.config.model.temperature / temperature)

    def chosen_head(self) -> int:
        """Return 0: there is one head."""
        return 0


def projector(num_features: int, hidden: int, width: int) -> nn.Sequential:
    """Return the release's projection head: three linear layers with GELU, small weights.

    Args:
        num_features: D.
        hidden: width of both hidden layers.
        width: P, length of the output.
    """
    layers = nn.Sequential(
        nn.Linear(num_features, hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, width),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return layers


def teacher_temperature(progress: float) -> float:
    """Return the teacher's temperature: a cosine from 0.07 to 0.04.

    Args:
        progress: part of the warm-up that has passed, at least 0; from 1 on it is over.

    >>> [round(teacher_temperature(progress), 3) for progress in (0, 0.5, 1, 3)]
    [0.07, 0.055, 0.04, 0.04]
    """
    first, last = TEACHER_TEMPERATURES
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * min(1.0, progress)))
