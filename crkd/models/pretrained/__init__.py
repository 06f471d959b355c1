"""Pretrained backbones that turn images into feature vectors."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.models.pretrained.base import PRETRAINED, Preprocessing, PretrainedBackbone
    from crkd.models.pretrained.embedder import Embedder, Form
    from crkd.models.pretrained.open import open_pretrained
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "base": "PRETRAINED Preprocessing PretrainedBackbone",
            "embedder": "Embedder Form",
            "open": "open_pretrained",
        },
    )

__all__ = [
    "PRETRAINED",
    "Embedder",
    "Form",
    "Preprocessing",
    "PretrainedBackbone",
    "open_pretrained",
]
