"""crkd: class-incremental novel class discovery with class-relation distillation."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.estimator import NovelClassDiscovery
else:
    # The estimator imports torch and scikit-learn; "import crkd" alone needs neither.
    __getattr__, __dir__ = lazy_exports(__name__, {"estimator": "NovelClassDiscovery"})

__all__ = ["NovelClassDiscovery", "__version__"]
__version__ = "0.1.0"
