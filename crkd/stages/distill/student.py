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
from crkd.models.backbones.base import Backbone
from crkd.models.backbones.build import build_backbone
from crkd.models.network import Network, build_network
from crkd.runs.load import OpenedRun
from crkd.stages.distill.task import JointHead
from crkd.stages.run_data import RunData
from crkd.stages.views import pretraining_views, recipe


def student_architecture(config: Config, opened: OpenedRun) -> Architecture:
    """Return the student's shape.

    With a term that takes the teacher's classifier, it has the teacher's heads and a projector.
    With a term for a student of the teacher's architecture, it has heads of the teacher's kind,
    unless ``distill.head`` is set. Else one head gives the logits of all classes.
    """
    shape = opened.architecture
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
