"""Teacher-to-student training as a task of the training loop.

Known and novel classes are one label space here: terms see the ``C`` joint logits of either network
as its ``known_logits``, and no novel ones.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from crkd.config.schema import Config
from crkd.core.types import Batch, HeadOutputs
from crkd.data.augment.self_mix import self_mix
from crkd.losses.supervised import cross_entropy
from crkd.losses.term import DistillationInputs
from crkd.models.network import Network
from crkd.training.compilation import compiled
from crkd.training.loss_terms import TeacherKind, Terms, context_of, supervised_weight
from crkd.training.precision import autocast
from crkd.training.task import Task
from crkd.training.teacher import FixedTeacher, LiveTeacher, Teacher


class JointHead(nn.Module):
    """The classifier of all classes of a network with one novel head, or none.

    Args:
        network: its heads are shared, not copied.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.known_head, self.novel_heads = network.known_head, network.novel_heads

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, C)`` logits of ``(B, D)`` features."""
        known: Tensor = self.known_head(features)
        if self.novel_heads is None:
            return known
        return torch.cat([known, self.novel_heads(features)[0]], dim=-1)


def as_one_head(outputs: HeadOutputs) -> HeadOutputs:
    """Return the outputs of a network with at most one novel head as if all classes were known.

    Returns:
        With ``known_logits`` ``(V, B, C)`` and no novel ones.
    """
    joint = outputs.joint_logits()[:, 0]
    return outputs._replace(known_logits=joint, novel_logits=None, over_logits=None)


class DistillModules(nn.Module):
    """The trained and saved modules of teacher-to-student training.

    Args:
        network: the student.
        terms: the distillation terms; some have modules of their own.
        frozen_heads: whether the student's heads are the teacher's and stay so.
    """

    def __init__(self, network: Network, terms: Terms, *, frozen_heads: bool) -> None:
        super().__init__()
        self.network, self.terms, self.frozen_heads = network, terms, frozen_heads

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, except for frozen heads, whose statistics must not move."""
        super().train(mode)
        if self.frozen_heads:
            JointHead(self.network).eval()
        return self


class DistillTask(Task):
    """Cross-entropy of the labels, where there are any, and the distillation terms.

    Args:
        network: the student, with one head for all classes or with the teacher's own heads, then
            frozen.
        teacher: with the chosen novel head alone, frozen and in evaluation mode; or the fixed
            outputs of one on feature vectors.
        config: the run's configuration.
        device: where it computes.

    Raises:
        InputError: a configured term does not exist or does not apply here.
    """

    stage = "distill"
    modules: DistillModules

    def __init__(
        self,
        network: Network,
        teacher: Network | FixedTeacher,
        config: Config,
        device: torch.device,
    ) -> None:
        self.config, self.device = config, device
        self.settings = config.distill
        kind: TeacherKind = "stored" if self.settings.stored_epochs else "network"
        if isinstance(teacher, FixedTeacher):
            context, kind = context_of(network, network, None, teacher.num_classes), "fixed"
        else:
            head = JointHead(teacher)
            features = torch.zeros(1, teacher.backbone.num_features, device=device)
            context = context_of(network, teacher, head, head(features).shape[-1])
        terms = Terms(
            self.settings.method,
            stage=self.stage,
            context=context,
            seed=config.seed,
            epochs=self.settings.epochs,
            teacher=kind,
        )
        self._frozen_heads = not any(p.requires_grad for p in JointHead(network).parameters())
        modules = DistillModules(network, terms, frozen_heads=self._frozen_heads)
        self.modules = modules.to(device)
        self._weight = supervised_weight(self.settings.supervised_weight, self.settings.method)
        self._maps = "feature_maps" in terms.needs
        self._needs_teacher = terms.needs_teacher or "pseudo_labels" in terms.needs
        self._forward = compiled(network, config.loop)
        self.teacher: Teacher = (
            teacher
            if isinstance(teacher, FixedTeacher)
            else LiveTeacher(teacher, config.loop, maps=self._maps, device=device)
        )

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and the cross-entropy and each term for the log."""
        shown, mix = batch, None
        if self.modules.terms.self_mix:
            shown, mix = self_mix(batch, self.modules.terms.self_mix, seed=self.config.seed)
        with autocast(self.config.loop.precision, self.device):
            outputs = self._forward(shown.views, maps=self._maps, shard=batch.shard)
            student = as_one_head(outputs)
        supervised = cross_entropy(student.known_logits, batch.labels)
        loss = self._weight * supervised
        named = {"supervised": supervised, "supervised_weighted": loss}
        if len(self.modules.terms):
            distilled, terms = self.modules.terms(self._inputs(student, batch, mix))
            loss = loss + distilled
            named |= terms
        return loss, named

    def _inputs(self, student: HeadOutputs, batch: Batch, mix: Tensor | None) -> DistillationInputs:
        """Run the teacher on the views as they are, unmixed."""
        teacher = as_one_head(self.teacher(batch, 0)) if self._needs_teacher else None
        pseudo = None
        if "pseudo_labels" in self.modules.terms.needs:
            assert teacher is not None
            choices = teacher.known_logits.argmax(dim=-1)
            pseudo = torch.where(batch.labels >= 0, batch.labels, choices).unsqueeze(1)
        return DistillationInputs(student, teacher, batch.labels, batch.num_labeled, pseudo, mix)

    def after_step(self) -> None:
        """Bring trained prototypes back to unit length; the teacher's stay bit by bit."""
        if not self._frozen_heads:
            self.modules.network.normalize_prototypes()

    def start_epoch(self, epoch: int) -> None:
        """Set the epoch of the terms."""
        self.modules.terms.set_epoch(epoch)
