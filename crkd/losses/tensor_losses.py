"""Distillation losses as modules on plain tensors, for other training loops.

Each module wraps a term of crkd; arguments and options of its constructor are those of the term.
Some losses have trained parameters: pass them to the optimizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.class_relation import ClassRelation
from crkd.losses.distillation.contrastive import Contrastive
from crkd.losses.distillation.features import Features
from crkd.losses.distillation.ferkd import FerKd
from crkd.losses.distillation.fitnet import FitNet
from crkd.losses.distillation.fkd import Fkd
from crkd.losses.distillation.kd import Kd
from crkd.losses.distillation.lwf import Lwf
from crkd.losses.distillation.mlld import MLLD
from crkd.losses.distillation.semckd import SemCKD
from crkd.losses.distillation.simkd import SimKd
from crkd.losses.distillation.srrl import Srrl
from crkd.losses.distillation.tfkd_reg import TfKdReg
from crkd.losses.distillation.tfkd_self import TfKdSelf
from crkd.losses.distillation.tolerant import Tolerant
from crkd.losses.distillation.vid import Vid
from crkd.losses.tensor_checks import (
    check_alike,
    check_labels,
    check_maps,
    check_novel,
    check_range,
    check_views,
)
from crkd.losses.term import DistillationInputs, DistillationTerm


class TensorLoss(nn.Module):
    """A distillation term that takes plain tensors of one batch.

    Args:
        arguments: positional arguments of the term's constructor, such as channel counts.
        options: options of the term.

    Raises:
        InputError: an option is out of range, or needs more than the tensors.
    """

    kind: ClassVar[type[DistillationTerm]]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()
        self.term = self.kind(*arguments, **options)
        if "pseudo_labels" in self.term.needs:
            raise InputError(
                f"{type(self).__name__}: on is {options['on']!r}, but the loss takes one label of "
                "each image; leave it out, and pass pseudo-labels as labels"
            )
        if self.term.self_mix:
            raise InputError(
                f"{type(self).__name__}: self_mix is {self.term.self_mix}, but the loss takes "
                "logits, not images; leave it out"
            )

    def _of(
        self,
        student: HeadOutputs,
        teacher: HeadOutputs | None = None,
        labels: Tensor | None = None,
        num_labeled: int = 0,
    ) -> Tensor:
        loss: Tensor = self.term(DistillationInputs(student, teacher, labels, num_labeled))
        return loss


class _LogitLoss(TensorLoss):
    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the loss of two tensors of logits ``(B, K)``; no gradient reaches the teacher."""
        check_alike(student_logits, teacher_logits)
        return self._of(_outputs(logits=student_logits), _outputs(logits=teacher_logits))


class _MapLoss(TensorLoss):
    def forward(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """Return the loss of two lists of feature maps ``(B, channels, h, w)``, one per stage."""
        check_maps(type(self).__name__, student_maps, teacher_maps)
        return self._of(_outputs(maps=student_maps), _outputs(maps=teacher_maps))


class KDLoss(_LogitLoss):
    """Knowledge distillation at a temperature: :class:`~crkd.losses.distillation.kd.Kd`."""

    kind = Kd


class LwFLoss(_LogitLoss):
    """Learning without forgetting: :class:`~crkd.losses.distillation.lwf.Lwf`."""

    kind = Lwf


class FKDLoss(_LogitLoss):
    """Cross-entropy with soft labels: :class:`~crkd.losses.distillation.fkd.Fkd`."""

    kind = Fkd


class MLLDLoss(_LogitLoss):
    """Multi-level logit distillation: :class:`~crkd.losses.distillation.mlld.MLLD`."""

    kind = MLLD

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if options.get("views") == "weak_strong":
            raise InputError(
                "MLLDLoss: views is 'weak_strong', but the loss takes the logits of one view; "
                "leave it out"
            )

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the loss of two tensors of logits ``(B, K)``; no gradient reaches the teacher."""
        if student_logits.ndim != 2:
            raise InputError(
                f"MLLDLoss takes logits (B, K), got {tuple(student_logits.shape)}; call it once "
                "for each view"
            )
        return super().forward(student_logits, teacher_logits)


class SelfTeacherLoss(_LogitLoss):
    """Tf-KD by self-training: :class:`~crkd.losses.distillation.tfkd_self.TfKdSelf`."""

    kind = TfKdSelf


class FitNetLoss(_MapLoss):
    """Hints from one feature map: :class:`~crkd.losses.distillation.fitnet.FitNet`."""

    kind = FitNet


class SemCKDLoss(_MapLoss):
    """Cross-layer distillation: :class:`~crkd.losses.distillation.semckd.SemCKD`."""

    kind = SemCKD


class SimKDLoss(_MapLoss):
    """Distance of the last feature maps: :class:`~crkd.losses.distillation.simkd.SimKd`."""

    kind = SimKd


class VIDLoss(_MapLoss):
    """Variational information distillation: :class:`~crkd.losses.distillation.vid.Vid`."""

    kind = Vid


class ClassRelationLoss(TensorLoss):
    """Class-relation distillation: :class:`~crkd.losses.distillation.class_relation.ClassRelation`.

    >>> import torch
    >>> known, novel = torch.eye(3), torch.zeros(3, 2)
    >>> loss = ClassRelationLoss(temperature=4.0)
    >>> round(float(loss(known, novel, known)), 2)
    17.46
    """

    kind = ClassRelation

    def forward(
        self, student_known: Tensor, student_novel: Tensor, teacher_known: Tensor
    ) -> Tensor:
        """Return the loss of unlabeled images.

        Args:
            student_known: ``(N, K)`` logits of the known classes.
            student_novel: ``(N, M)`` logits of the novel classes; ``(H, N, M)`` of several heads.
            teacher_known: ``(N, K)`` logits; no gradient reaches them.
        """
        check_alike(student_known, teacher_known)
        check_novel(student_novel, len(student_known))
        novel = student_novel if student_novel.ndim == 3 else student_novel.unsqueeze(0)
        return self._of(_outputs(logits=student_known, novel=novel), _outputs(logits=teacher_known))


class FeatureLoss(TensorLoss):
    """Distance of feature vectors: :class:`~crkd.losses.distillation.features.Features`."""

    kind = Features

    def forward(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        """Return the loss of two tensors of features ``(B, D)``."""
        check_alike(student_features, teacher_features)
        return self._of(_outputs(features=student_features), _outputs(features=teacher_features))


class SRRLLoss(TensorLoss):
    """Features under the teacher's classifier: :class:`~crkd.losses.distillation.srrl.Srrl`."""

    kind = Srrl

    def forward(
        self, student_map: Tensor, teacher_features: Tensor, teacher_logits: Tensor
    ) -> Tensor:
        """Return the loss of the last map ``(B, C, h, w)``, features and logits of the teacher."""
        teacher = _outputs(logits=teacher_logits, features=teacher_features)
        return self._of(_outputs(maps=[student_map]), teacher)


class ContrastiveLoss(TensorLoss):
    """Contrast of two views: :class:`~crkd.losses.distillation.contrastive.Contrastive`."""

    kind = Contrastive

    def forward(self, features: Tensor) -> Tensor:
        """Return the loss of the features ``(V, B, D)`` of V views, two or more."""
        check_views(features)
        return self._of(HeadOutputs(features, features[..., :0]))


class FerKDLoss(TensorLoss):
    """Soft labels adapted to difficulty: :class:`~crkd.losses.distillation.ferkd.FerKd`.

    Labeled and unlabeled samples may be in any order. They are separated on the host, which waits
    for the device.
    """

    kind = FerKd

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits ``(B, K)``.

        Args:
            student_logits: ``(B, K)``.
            teacher_logits: ``(B, K)``; no gradient reaches them.
            labels: ``(B,)`` integers below K, -1 for unlabeled samples.
        """
        check_alike(student_logits, teacher_logits)
        check_labels(labels, student_logits)
        check_range(labels, student_logits.shape[1])
        kinds = [(labels >= 0).nonzero().flatten(), (labels < 0).nonzero().flatten()]
        rows = torch.cat(kinds)
        student, teacher = (_outputs(logits=x[rows]) for x in (student_logits, teacher_logits))
        return self._of(student, teacher, labels[rows], len(kinds[0]))


class VirtualTeacherLoss(TensorLoss):
    """Tf-KD with a virtual teacher: :class:`~crkd.losses.distillation.tfkd_reg.TfKdReg`."""

    kind = TfKdReg

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits ``(B, K)``.

        Args:
            logits: ``(B, K)``.
            labels: ``(B,)`` integers below K, -1 for unlabeled samples. Larger ones are not
                refused, because a look at them would wait for the device.
        """
        check_labels(labels, logits)
        return self._of(_outputs(logits=logits), labels=labels, num_labeled=len(labels))


class TopScoreLoss(TensorLoss):
    """Top score difference: :class:`~crkd.losses.distillation.tolerant.Tolerant`.

    Args:
        num_known: K.
        options: options of the term.
    """

    kind = Tolerant

    def __init__(self, num_known: int, **options: Any) -> None:
        super().__init__("pretrain", num_known, **options)

    def forward(self, logits: Tensor) -> Tensor:
        """Return the loss of logits ``(B, K)`` of a teacher in training."""
        return self._of(_outputs(logits=logits))


def _outputs(
    *,
    logits: Tensor | None = None,
    novel: Tensor | None = None,
    features: Tensor | None = None,
    maps: Sequence[Tensor] = (),
) -> HeadOutputs:
    """Return tensors of one batch as outputs on one view; missing ones have width 0."""
    given = next(t for t in (logits, features, *maps) if t is not None)
    nothing: Tensor = given.new_empty(len(given), 0)
    return HeadOutputs(
        (nothing if features is None else features).unsqueeze(0),
        (nothing if logits is None else logits).unsqueeze(0),
        None if novel is None else novel.unsqueeze(0),
        maps=(tuple(maps),) if maps else (),
    )
