"""Discovery on frozen vectors of a pretrained network, in minutes on a CPU."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.stages.vectors.contest import Contest
    from crkd.stages.vectors.discovery import (
        Prediction,
        VectorDiscovery,
        fit_discovery,
        further_discovery,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "contest": "Contest",
            "discovery": "Prediction VectorDiscovery fit_discovery further_discovery",
        },
    )

__all__ = [
    "Contest",
    "Prediction",
    "VectorDiscovery",
    "fit_discovery",
    "further_discovery",
]
