"""crkd: class-incremental novel class discovery with class-relation distillation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crkd.estimator import NovelClassDiscovery

__all__ = ["NovelClassDiscovery", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # The estimator brings torch and scikit-learn along; "import crkd" alone needs neither.
    if name == "NovelClassDiscovery":
        from crkd.estimator import NovelClassDiscovery

        return NovelClassDiscovery
    raise AttributeError(f"module 'crkd' has no attribute {name!r}")
