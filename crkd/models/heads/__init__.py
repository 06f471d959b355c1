"""Classification heads: prototypes, heads of incremental steps, heads after a review."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.models.heads.incremental import IncrementalHead
    from crkd.models.heads.prototype import LinearHead, NovelHeads, PrototypeHead, PrototypeModule
    from crkd.models.heads.reviewed import ReviewedHead
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "incremental": "IncrementalHead",
            "prototype": "LinearHead NovelHeads PrototypeHead PrototypeModule",
            "reviewed": "ReviewedHead",
        },
    )

__all__ = [
    "IncrementalHead",
    "LinearHead",
    "NovelHeads",
    "PrototypeHead",
    "PrototypeModule",
    "ReviewedHead",
]
