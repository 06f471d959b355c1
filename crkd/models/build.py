"""Construction of a network from its architecture."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from crkd.core.seeding import seeded
from crkd.models.architecture import Architecture
from crkd.models.backbones.build import build_backbone
from crkd.models.backbones.simkd_projector import ProjectedBackbone
from crkd.models.heads.incremental import IncrementalHead
from crkd.models.heads.prototype import LinearHead, NovelHeads, PrototypeHead
from crkd.models.heads.reviewed import ReviewedHead
from crkd.models.network import Network


def build_network(
    architecture: Architecture,
    *,
    seed: int = 0,
    weights: Path | None = None,
    trained_blocks: int | None = None,
    batch_norm_per_view: bool = False,
) -> Network:
    """Create a network.

    Every module draws from its own random stream, so adding one does not change the initial
    weights of the others.

    Args:
        architecture: the architecture.
        seed: seed of all initial weights; the global random state is not changed.
        weights: file to load the backbone from.
        trained_blocks: train only this many last blocks of the backbone; None trains all.
        batch_norm_per_view: see :class:`Network`.

    Raises:
        InputError: an argument is out of range or unknown, or the weights do not match.
    """
    shape = architecture
    body = build_backbone(
        shape.backbone,
        image_size=shape.image_size,
        weights=weights,
        trained_blocks=trained_blocks,
        seed=seed,
    )
    if shape.projected:
        with seeded(_part_seed(seed, 4)):
            body = ProjectedBackbone(body, shape.projected, stride=shape.projected_stride)
    clusters = shape.num_novel if shape.has_novel_heads else 0
    finer = clusters * shape.overclustering
    return Network(
        body,
        _known_head(shape, body.num_features, seed),
        _last_heads(shape, body.num_features, _part_seed(seed, 2)) if clusters else None,
        _heads(shape, body.num_features, finer, shape.num_heads, _part_seed(seed, 3))
        if finer
        else None,
        num_known=shape.num_known,
        batch_norm_per_view=batch_norm_per_view,
    )


def _known_head(shape: Architecture, num_features: int, seed: int) -> nn.Module:
    """Return the head of the known classes, those of earlier steps included."""
    columns = shape.num_known - sum(shape.groups) + (shape.num_novel if shape.joint else 0)
    with seeded(_part_seed(seed, 1)):
        if shape.known_head == "linear":
            head: nn.Module = LinearHead(num_features, columns)
        else:
            head = PrototypeHead(num_features, columns, shape.temperature)
    if not shape.groups:
        return head
    part = _part_seed(seed, 5)
    found = [
        _reviewed_head(shape, num_features, group, part)
        if shape.review_of(group)
        else _heads(shape, num_features, size, 1, part)
        for group, size in enumerate(shape.groups)
    ]
    return IncrementalHead(head, found)


def _last_heads(shape: Architecture, num_features: int, seed: int) -> NovelHeads:
    """Return the heads of the novel classes."""
    last = len(shape.groups)
    if shape.review_of(last):
        return _reviewed_head(shape, num_features, last, seed)
    return _heads(shape, num_features, shape.num_novel, shape.num_heads, seed)


def _heads(
    shape: Architecture, num_features: int, num_classes: int, num_heads: int, seed: int
) -> NovelHeads:
    with seeded(seed):
        return NovelHeads(
            num_features,
            num_classes,
            num_heads,
            hidden=shape.hidden,
            projection=shape.projection,
            temperature=shape.temperature,
        )


def _reviewed_head(shape: Architecture, num_features: int, group: int, seed: int) -> ReviewedHead:
    """Return the head of a group of classes that a person has reviewed."""
    with seeded(seed):
        return ReviewedHead(
            num_features,
            shape.review_of(group),
            hidden=shape.hidden,
            projection=shape.projection,
            temperature=shape.temperature,
            num_parts=shape.parts_of(group),
        )


def _part_seed(seed: int, part: int) -> int:
    # A large odd step separates the seeds of the modules for neighboring seeds.
    return (seed + part * 0x9E3779B97F4A7C15) % 2**63
