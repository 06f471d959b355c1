"""Embedding: images to feature vectors of a pretrained backbone."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.embedding.in_memory import embed_images
    from crkd.embedding.plan import EmbedSettings
    from crkd.embedding.run import EmbedSummary, embed
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "in_memory": "embed_images",
            "plan": "EmbedSettings",
            "run": "EmbedSummary embed",
        },
    )

__all__ = ["EmbedSettings", "EmbedSummary", "embed", "embed_images"]
