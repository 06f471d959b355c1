"""Stage 2: discovery of the novel classes."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.stages.discover.class_count import Estimate, estimate_num_novel
    from crkd.stages.discover.feature_replay import FeatureReplay
    from crkd.stages.discover.frost import FrostTask
    from crkd.stages.discover.parent import ParentRun, open_parent
    from crkd.stages.discover.pseudo_labels import Assigner
    from crkd.stages.discover.run import discover
    from crkd.stages.discover.task import DiscoveryModules, DiscoveryTask
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "class_count": "Estimate estimate_num_novel",
            "feature_replay": "FeatureReplay",
            "frost": "FrostTask",
            "parent": "ParentRun open_parent",
            "pseudo_labels": "Assigner",
            "run": "discover",
            "task": "DiscoveryModules DiscoveryTask",
        },
    )

__all__ = [
    "Assigner",
    "DiscoveryModules",
    "DiscoveryTask",
    "Estimate",
    "FeatureReplay",
    "FrostTask",
    "ParentRun",
    "discover",
    "estimate_num_novel",
    "open_parent",
]
