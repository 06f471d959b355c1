"""Embedding: images to feature vectors of a pretrained backbone."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.stages.embed.in_memory import embed_images
    from crkd.stages.embed.plan import EmbedSettings
    from crkd.stages.embed.run import EmbedSummary, embed
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
