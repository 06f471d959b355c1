"""Pretrained backbones by name: registered ones, timm's models, ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from crkd.core.errors import InputError
from crkd.models.pretrained.base import PRETRAINED, PretrainedBackbone

DEFAULT: Final = "lite0"
TIMM_PREFIX: Final = "timm:"
MAX_SIZE: Final = 4096


def open_pretrained(
    name: str = DEFAULT,
    *,
    weights: str | Path | None = None,
    image_size: int | None = None,
    download: bool = False,
) -> PretrainedBackbone:
    """Return the pretrained backbone that a name means, with its weights.

    Nothing is downloaded unless ``download`` says so.

    Args:
        name: a registered name, a timm model (``timm:NAME`` or NAME), or the path of an ONNX file.
        weights: a local weight file for a timm model.
        image_size: side of the input in pixels; None takes that of the backbone.
        download: fetch weights of a timm model that are not in the hub's cache.

    Raises:
        InputError: the name is unknown, or its weights are missing or do not fit.
    """
    if image_size is not None and not 16 <= image_size <= MAX_SIZE:
        raise InputError(f"--image-size {image_size} is not in 16 to {MAX_SIZE}; 160 is usual")
    registered = name in PRETRAINED.names()
    if weights is not None and (registered or name.lower().endswith(".onnx")):
        raise InputError(
            f"--backbone-weights {str(weights)!r} does not apply to --backbone {name!r}, which "
            "brings its weights; leave it out, or name a timm model"
        )
    if registered:
        return PRETRAINED.get(name)(image_size)
    if name.lower().endswith(".onnx"):
        from crkd.models.pretrained.onnx_file import onnx_backbone

        return onnx_backbone(Path(name), image_size=image_size)
    from crkd.models.pretrained.timm_weights import timm_backbone

    return timm_backbone(
        name.removeprefix(TIMM_PREFIX),
        weights=None if weights is None else Path(weights),
        image_size=image_size,
        download=download,
    )
