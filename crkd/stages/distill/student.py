"""What a student is made of, and the batches it learns from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.datasets.features import earlier_rows
from crkd.data.loader import BatchLoader
from crkd.data.splits.partition import Subset, joined
from crkd.data.views import Views
from crkd.losses.term import TERMS
from crkd.models.architecture import Architecture
from crkd.models.network import Network, build_network
from crkd.models.vector_network import NAME as VECTORS
from crkd.runs.load import OpenedRun
from crkd.stages.distill.task import JointHead
from crkd.stages.run_data import RunData
from crkd.stages.views import pretraining_views, recipe

DEFAULT_STUDENT: Final = "resnet20"
"""Backbone of the student of a teacher on feature vectors, which has no backbone for images."""


def student_architecture(config: Config, opened: OpenedRun, image_size: int) -> Architecture:
    """Return the student's shape: one head of all classes, or the teacher's behind a projector.

    Args:
        config: names backbone, head and terms of the student.
        opened: the teacher's run.
        image_size: side of the student's input in pixels.
    """
    shape = opened.architecture
    if shape.backbone == VECTORS:
        return Architecture(
            config.distill.student or DEFAULT_STUDENT,
            image_size,
            num_known=shape.num_known,
            num_novel=shape.num_novel,
            num_heads=1,
            known_head=config.distill.head,
            joint=True,
        )
    own_head = not _takes_the_classifier(config)
    return dataclasses.replace(
        shape,
        backbone=config.distill.student or shape.backbone,
        known_head=config.distill.head if own_head else shape.known_head,
        num_heads=1,
        overclustering=0,
        joint=shape.num_novel > 0 if own_head else shape.joint,
        projected=0 if own_head else opened.network.backbone.num_features,
    )


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
    network = build_network(architecture, seed=seed)
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
    source, novel = data.dataset.train, data.subsets.novel_train
    rows = earlier_rows(source)
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


def distillation_views(config: Config, data: RunData) -> Views:
    """Return the configured views, or those of stage 1.

    Raises:
        InputError: the views differ in size, so that their feature maps would not fit together.
    """
    mean, std = data.dataset.mean, data.dataset.std
    if not config.distill.views:
        return pretraining_views(config, data.image_size, mean, std)
    recipes = tuple(recipe(view, data.image_size) for view in config.distill.views)
    sizes = sorted({one.size for one in recipes})
    if len(sizes) > 1:
        raise InputError(
            f"distill.views has views of {', '.join(map(str, sizes))} px; give all of them one "
            "size_share"
        )
    return Views(recipes, len(recipes), mean, std, config.loop.compile)
