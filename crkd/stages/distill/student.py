"""What a student is made of, and the batches it learns from."""

from __future__ import annotations

import dataclasses

import torch

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.loader import BatchLoader
from crkd.data.views import Views
from crkd.losses.term import TERMS
from crkd.models.architecture import Architecture
from crkd.models.network import Network, build_network
from crkd.runs.load import OpenedRun
from crkd.stages.distill.task import JointHead
from crkd.stages.run_data import RunData
from crkd.stages.views import pretraining_views, recipe


def student_architecture(config: Config, opened: OpenedRun) -> Architecture:
    """Return the student's shape: one head of all classes, or the teacher's behind a projector."""
    own_head = not _takes_the_classifier(config)
    shape = opened.architecture
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


def distillation_loader(
    config: Config, data: RunData, device: torch.device, *, num_novel: int
) -> BatchLoader:
    """Return the batches: labeled known images and, if wanted, the unlabeled ones.

    Args:
        config: the configuration of the run.
        data: its images; labels of the unlabeled ones are hidden.
        device: where batches are made.
        num_novel: M, by which the default of ``distill.unlabeled`` is decided.
    """
    joins = config.distill.unlabeled
    if joins is None:
        joins = num_novel > 0
    return BatchLoader(
        data.store(data.subsets.known_train),
        data.subsets.known_train.labels,
        data.store(data.subsets.novel_train) if joins else None,
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
