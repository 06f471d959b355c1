"""DisWOT: similarity of two untrained networks, as a predictor of distillation accuracy.

Dong, Li and Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR
2023; the formulas are those of the authors' release. Differences from the release:

* The classifier keeps PyTorch's default initial scale. The release draws its weights from N(0, 1).
  The softmax then saturates, the gradients of absent classes fall below 1e-12, and the release's
  normalization sets them to zero. The scale of all other weights does not matter in a convolution
  net with batch norm.
* The per-class matrices are not built; :func:`semantic_similarity` has a closed form.
* The caller averages several draws; the release uses one.
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
    """Outputs of a network for one batch.

    Attributes:
        features: ``(B, D)``, input of the linear classifier.
        logits: ``(B, K)``, output of the classifier.
        last_map: ``(B, channels, h, w)``, the map before pooling.
    """

    features: Tensor
    logits: Tensor
    last_map: Tensor


class Similarity(NamedTuple):
    """The two similarities of a teacher and a student, each at most 0 (equal).

    Attributes:
        semantic: see :func:`semantic_similarity`.
        relation: see :func:`relation_similarity`.
    """

    semantic: float
    relation: float

    @property
    def score(self) -> float:
        """The sum of both, the DisWOT score."""
        return self.semantic + self.relation


@torch.no_grad()
def untrained_activations(
    backbone: str, images: Tensor, *, num_classes: int, image_size: int, seed: int
) -> Activations:
    """Return the outputs of a randomly initialized network with a linear classifier.

    Batch norm uses the statistics of the batch, because an untrained network has no others.

    Args:
        backbone: name for :func:`crkd.models.backbones.build.build_backbone`.
        images: ``(B, 3, h, w)``, normalized.
        num_classes: K.
        image_size: side for which the backbone is built.
        seed: seed of all its weights.

    Raises:
        InputError: the backbone is unknown or has no feature maps.
    """
    body = build_backbone(backbone, image_size=image_size, seed=seed).to(images.device)
    with seeded(seed):
        head = LinearHead(body.num_features, num_classes).to(images.device)
    features, maps = body.forward_with_maps(images)
    return Activations(features, head(features), maps[-1])


def diswot(teacher: Activations, student: Activations, labels: Tensor) -> Similarity:
    """Return the similarity of two networks on one batch.

    Args:
        teacher: outputs of the teacher for the batch.
        student: outputs of the student for the batch.
        labels: ``(B,)`` int64 in [0, K).

    Raises:
        ValueError: the features of the networks differ in length.
    """
    semantic = semantic_similarity(
        classifier_gradient(teacher.features, teacher.logits, labels),
        classifier_gradient(student.features, student.logits, labels),
    )
    return Similarity(semantic, relation_similarity(teacher.last_map, student.last_map))


def classifier_gradient(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the mean cross-entropy with respect to a linear layer's weights.

    It is ``(softmax(logits) - onehot(labels))^T features / B``, so no backward pass is needed.

    Args:
        features: ``(B, D)``, input of the layer.
        logits: ``(B, K)``, its output.
        labels: ``(B,)`` int64 in [0, K).

    Returns:
        ``(K, D)`` float64, because the signs of small entries matter.
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
        In [-4, 0]; 0 if the gradients of each class are equal up to a factor.

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
    # The sum of squares of small gradients would underflow, so they are divided by the largest.
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
        In [-4 / B, 0]; 0 if the relations between samples are equal.
    """
    rows = [values.double().flatten(1) for values in (teacher_map, student_map)]
    teacher, student = (F.normalize(row @ row.T, dim=1) for row in rows)
    return -float((teacher - student).square().sum()) / len(teacher) ** 2
