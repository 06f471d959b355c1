"""Construction of backbones by name: registered ones, CIFAR ResNets of any depth, timm models."""

from __future__ import annotations

from pathlib import Path

from crkd.core.errors import InputError
from crkd.core.seeding import seeded
from crkd.models.backbones.base import BACKBONES, FREE_DEPTHS_PREFIX, Backbone, BackboneFactory
from crkd.models.weights import load_backbone_weights

TIMM_PREFIX = "timm:"


def _factory(name: str) -> BackboneFactory:
    # The two prefixes come first, so that no plug-in can replace the names with them.
    if name.startswith(FREE_DEPTHS_PREFIX):
        from crkd.models.backbones.cifar_resnet import free_depths_factory

        return free_depths_factory(name)
    if not name.startswith(TIMM_PREFIX) and name in BACKBONES.names():
        return BACKBONES.get(name)
    # timm takes seconds to import, and only this branch needs it.
    from crkd.models.backbones.timm_models import timm_factory

    found = timm_factory(name.removeprefix(TIMM_PREFIX))
    if found is not None:
        return found
    if name.startswith(TIMM_PREFIX):
        raise InputError(
            f"unknown timm model {name.removeprefix(TIMM_PREFIX)!r}; "
            "`timm.list_models()` prints the names that this timm knows"
        )
    try:
        return BACKBONES.get(name)
    except InputError as error:
        raise InputError(
            f"{error}, {FREE_DEPTHS_PREFIX}A-B-C for other depths, or any timm model as "
            f"{TIMM_PREFIX}NAME"
        ) from None


def build_backbone(
    name: str,
    *,
    image_size: int,
    weights: Path | None = None,
    trained_blocks: int | None = None,
    seed: int = 0,
) -> Backbone:
    """Create the backbone called ``name``.

    Args:
        name: a registered name, ``cifar_resnet_A-B-C`` for a CIFAR ResNet of any depths,
            ``timm:NAME``, or any timm name that is not registered here.
        image_size: side of the large crops in pixels. It determines the stem; images of other
            sizes are accepted too.
        weights: safetensors or torch file with initial weights; random weights without it.
        trained_blocks: train only this many last blocks (blocks of a ViT, stages of a ResNet);
            None trains everything.
        seed: seed of the random weights; the global random state is not changed.

    Raises:
        InputError: unknown name, unreadable or mismatched weights, too many blocks, or a plug-in
            that is no backbone.
    """
    if image_size < 1:
        raise InputError(f"image_size is {image_size}; give the side of the images in pixels")
    with seeded(seed):
        backbone = _factory(name)(image_size)
    _check_interface(name, backbone)
    if weights is not None:
        backbone.weights_report = load_backbone_weights(backbone.loadable, weights)
    if trained_blocks is not None:
        backbone.freeze_all_but(trained_blocks)
    return backbone


def _check_interface(name: str, backbone: object) -> None:
    """Refuse what the factory of a plug-in returned unless it is a complete backbone."""
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"the backbone {name!r} is of the type {type(backbone).__name__}; its factory must "
            "return a subclass of crkd.models.backbones.base.Backbone"
        )
    missing = [key for key in ("num_features", "map_channels") if not hasattr(backbone, key)]
    if missing:
        raise InputError(
            f"the backbone {name!r} has no attribute {' and no '.join(missing)}; set it in the "
            f"constructor of {type(backbone).__name__}"
        )
