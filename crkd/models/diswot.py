"""DisWOT: how alike two untrained networks are, as a forecast of how well one teaches the other.

Dong, Li and Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR
2023; the formulas are those of the authors' release. Where this file departs from it:

* The classifier keeps PyTorch's own initial scale. The release draws its weights from N(0, 1);
  then the softmax saturates, the gradients of absent classes fall below 1e-12, and the release's
  normalization wipes them out. All other weights of a convolution net with batch norm have no
  scale of their own.
* The per-class matrices are never built: the closed form of :func:`semantic_similarity`.
* Several draws are averaged by the caller; the release looks at one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from crkd.core.seeding import seeded
from crkd.models.backbones.build import build_backbone
from crkd.models.heads.prototype import LinearHead


class Activations(NamedTuple):
    """What a network makes of one batch.

    Attributes:
        features: ``(B, D)``, what its linear classifier reads.
        logits: ``(B, K)``, what the classifier makes of them.
        last_map: ``(B, channels, h, w)``, the map before pooling.
    """

    features: Tensor
    logits: Tensor
    last_map: Tensor


class Similarity(NamedTuple):
    """The two similarities of a teacher and a student, each at most 0 (nothing differs).

    Attributes:
        semantic: see :func:`semantic_similarity`; None where the features differ in length.
        relation: see :func:`relation_similarity`.
    """

    semantic: float | None
    relation: float

    @property
    def score(self) -> float:
        """Their sum with unit weights, the DisWOT score; the relation alone without the other."""
        return self.relation + (self.semantic or 0.0)


@torch.no_grad()
def untrained_activations(
    backbone: str, images: Tensor, *, num_classes: int, image_size: int, seed: int
) -> Activations:
    """Return what a freshly drawn network with a linear classifier makes of ``images``.

    Batch norm uses the statistics of the batch, as the running ones of a fresh network mean
    nothing.

    Args:
        backbone: name for :func:`crkd.models.backbones.build.build_backbone`.
        images: ``(B, 3, h, w)``, normalized.
        num_classes: K.
        image_size: side for which the backbone is made.
        seed: of all its weights.

    Raises:
        InputError: the backbone is unknown or gives no feature maps.
    """
    body = build_backbone(backbone, image_size=image_size, seed=seed).to(images.device)
    with seeded(seed):
        head = LinearHead(body.num_features, num_classes).to(images.device)
    features, maps = body.forward_with_maps(images)
    return Activations(features, head(features), maps[-1])


def diswot(teacher: Activations, student: Activations, labels: Tensor) -> Similarity:
    """Return the similarity of two networks on one batch.

    Args:
        teacher: what the teacher makes of the batch.
        student: what the student makes of it.
        labels: ``(B,)`` int64 in [0, K).
    """
    semantic = None
    if teacher.features.shape[1] == student.features.shape[1]:
        semantic = semantic_similarity(
            classifier_gradient(teacher.features, teacher.logits, labels),
            classifier_gradient(student.features, student.logits, labels),
        )
    return Similarity(semantic, relation_similarity(teacher.last_map, student.last_map))


def classifier_gradient(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the mean cross-entropy with respect to a linear layer's weights.

    It is ``(softmax(logits) - onehot(labels))^T features / B``: no backward pass is needed.

    Args:
        features: ``(B, D)``, input of the layer.
        logits: ``(B, K)``, its output.
        labels: ``(B,)`` int64 in [0, K).

    Returns:
        ``(K, D)`` float64: the signs of small entries matter.
    """
    errors = logits.double().softmax(dim=1) - F.one_hot(labels, logits.shape[1])
    return errors.T @ features.double() / len(features)


def semantic_similarity(teacher_gradient: Tensor, student_gradient: Tensor) -> float:
    """Return ``-1/(K D) sum_k ||A_k^t - A_k^s||^2``, with ``A_k = g_k g_k^T``, its rows normalized.

    ``g_k`` is the gradient of class k's classifier weights. Row i of ``A_k`` is
    ``sign(g_ki) g_k / ||g_k||``, hence (n counts the rows that are not zero)

        ||A_k^t - A_k^s||^2 = n_k^t + n_k^s - 2 cos(g_k^t, g_k^s) sum_i sign(g_ki^t) sign(g_ki^s).

    Args:
        teacher_gradient: ``(K, D)``.
        student_gradient: ``(K, D)``.

    Returns:
        In [-4, 0]; 0 if each class's gradients are alike up to a factor.

    Raises:
        ValueError: the shapes differ.
    """
    if teacher_gradient.shape != student_gradient.shape:
        raise ValueError(
            f"gradients of shapes {tuple(teacher_gradient.shape)} and "
            f"{tuple(student_gradient.shape)} cannot be compared"
        )
    gradients = torch.stack([teacher_gradient, student_gradient])
    signs = gradients.sign()
    # A sum of squares of small gradients would underflow; the largest entry is taken out first.
    largest = gradients.abs().amax(dim=-1, keepdim=True)
    unit = F.normalize(gradients / torch.where(largest > 0, largest, 1.0), dim=-1)
    cosine = (unit[0] * unit[1]).sum(dim=-1)
    agreement = (signs[0] * signs[1]).sum(dim=-1)
    distance = signs.abs().sum(dim=(0, 2)) - 2 * cosine * agreement
    return -float(distance.sum()) / teacher_gradient.numel()


def relation_similarity(teacher_map: Tensor, student_map: Tensor) -> float:
    """Return ``-1/B^2 ||G^t - G^s||^2``, with ``G = F F^T``, its rows normalized.

    Args:
        teacher_map: ``(B, ...)``; row n of F is all of sample n.
        student_map: ``(B, ...)``; the shapes of a sample may differ.

    Returns:
        In [-4 / B, 0]; 0 if both relate the samples in the same way.
    """
    rows = [values.double().flatten(1) for values in (teacher_map, student_map)]
    teacher, student = (F.normalize(row @ row.T, dim=1) for row in rows)
    return -float((teacher - student).square().sum()) / len(teacher) ** 2
