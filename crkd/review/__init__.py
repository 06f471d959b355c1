"""Review of discovered classes: a page for decisions, and the run that applies them."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.review.apply import apply_review
    from crkd.review.decision_entries import ClassDecision
    from crkd.review.decisions import Decisions, read_decisions
    from crkd.review.export_images import write_images
    from crkd.review.page import page_data
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "apply": "apply_review",
            "decision_entries": "ClassDecision",
            "decisions": "Decisions read_decisions",
            "export_images": "write_images",
            "page": "page_data",
        },
    )

__all__ = [
    "ClassDecision",
    "Decisions",
    "apply_review",
    "page_data",
    "read_decisions",
    "write_images",
]
