"""Networks, modules and batches of a student."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from crkd.config.schema import Config
from crkd.data.datasets.features import earlier_rows
from crkd.data.loader import BatchLoader
from crkd.data.splits.partition import Subset, joined
from crkd.data.splits.smaller import class_fraction_mask
from crkd.losses.term import TERMS
from crkd.models.architecture import Architecture
from crkd.models.backbones.base import Backbone
from crkd.models.backbones.build import build_backbone
from crkd.models.build import build_network
from crkd.models.network import Network
from crkd.runs.load import OpenedRun
from crkd.stages.distill.task import JointHead
from crkd.stages.run_data import RunData
from crkd.stages.views import distillation_views

DEFAULT_STUDENT: Final = "resnet20"
"""Backbone of the student of a teacher on feature vectors, which has no backbone for images."""


def student_architecture(config: Config, opened: OpenedRun, image_size: int) -> Architecture:
    """Return the student's shape.

    With a term that takes the teacher's classifier, it has the teacher's heads and a projector.
    With a term for a student of the teacher's architecture, it has heads of the teacher's kind,
    unless ``distill.head`` is set. Else one head gives the logits of all classes.

    Args:
        config: names backbone, head and terms of the student.
        opened: the teacher's run.
        image_size: side of the input in pixels of the student of a teacher on vectors.
    """
    shape = opened.architecture
    if shape.on_vectors:
        return Architecture(
            config.distill.student or DEFAULT_STUDENT,
            image_size,
            num_known=shape.num_known,
            num_novel=shape.num_novel,
            num_heads=1,
            known_head=config.distill.head or "linear",
            joint=True,
        )
    student = dataclasses.replace(
        shape,
        backbone=config.distill.student or shape.backbone,
        num_heads=1,
        overclustering=0,
        projected=0,
        projected_stride=1,
    )
    if _takes_the_classifier(config):
        theirs = opened.network.backbone
        stride = _projector_stride(student.backbone, theirs, shape.image_size)
        return dataclasses.replace(student, projected=theirs.num_features, projected_stride=stride)
    alike = any(TERMS.get(term.name).same_architecture for term in config.distill.method)
    if alike and config.distill.head is None:
        return student
    head = config.distill.head or "linear"
    return dataclasses.replace(student, known_head=head, joint=shape.num_novel > 0)


@torch.no_grad()
def _projector_stride(student: str, teacher: Backbone, image_size: int) -> int:
    """Return by which factor the student's last map is larger than the teacher's, at least 1."""
    body = build_backbone(student, image_size=image_size).eval()
    if not (body.map_channels and teacher.map_channels):
        return 1  # the projector, or the term, refuses such a backbone
    device = next(teacher.parameters()).device
    image = torch.zeros(1, 3, image_size, image_size, device=device)
    ours, theirs = (
        network.forward_with_maps(image)[1][-1].shape[-1]
        for network in (body.to(device), teacher.eval())
    )
    return max(1, round(ours / theirs))


def student_network(
    config: Config, architecture: Architecture, teacher: Network, seed: int
) -> Network:
    """Return a fresh student; where the terms ask for it, with the teacher's heads, frozen.

    Args:
        config: names the terms.
        architecture: from :func:`student_architecture`.
        teacher: with one novel head, or none.
        seed: of the initial weights.
    """
    network = build_network(
        architecture, seed=seed, batch_norm_per_view=config.model.batch_norm_per_view
    )
    if _takes_the_classifier(config):
        head = JointHead(network)
        head.load_state_dict(JointHead(teacher).state_dict())
        head.requires_grad_(False)
    return network


def _takes_the_classifier(config: Config) -> bool:
    return any("teacher_classifier" in TERMS.get(term.name).needs for term in config.distill.method)


def training_parts(config: Config, data: RunData, *, num_novel: int) -> list[Subset]:
    """Return the labeled images and, if wanted, the unlabeled ones, with those of earlier steps.

    Args:
        config: the configuration of the run.
        data: its images; labels of the unlabeled ones are hidden.
        num_novel: M, by which the default of ``distill.unlabeled`` is decided.
    """
    joins = config.distill.unlabeled
    if joins is None:
        joins = num_novel > 0
    if not joins:
        return [data.subsets.known_train]
    source, novel = data.dataset.train, data.subsets.unlabeled
    rows = earlier_rows(source)
    rows = rows[class_fraction_mask(source.labels[rows], config.data.subset)]
    if len(rows):
        ids = [source.ids[row] for row in rows]
        novel = joined([Subset(source, rows, np.full(len(rows), -1), ids), novel])
    return [data.subsets.known_train, novel]


def distillation_loader(
    config: Config, data: RunData, parts: Sequence[Subset], device: torch.device
) -> BatchLoader:
    """Return the batches.

    Args:
        config: the configuration of the run.
        data: its images.
        parts: from :func:`training_parts`.
        device: where batches are made.
    """
    return BatchLoader(
        data.store(parts[0]),
        parts[0].labels,
        data.store(parts[1]) if len(parts) > 1 else None,
        batch_size=config.distill.batch_size,
        views=distillation_views(config, data),
        view_epochs=config.distill.stored_epochs,
        seed=config.seed,
        device=device,
    )
