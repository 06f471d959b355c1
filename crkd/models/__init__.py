"""Networks: backbones and heads that map images to features and logits."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports
from crkd.models.diswot import diswot

if TYPE_CHECKING:
    from crkd.models.architecture import Architecture
    from crkd.models.backbones.base import BACKBONES, Backbone
    from crkd.models.backbones.build import build_backbone
    from crkd.models.build import build_network
    from crkd.models.flops import Cost, cost_of
    from crkd.models.heads.incremental import IncrementalHead
    from crkd.models.heads.prototype import LinearHead, NovelHeads, PrototypeHead
    from crkd.models.heads.reviewed import ReviewedHead
    from crkd.models.network import Network, freeze, with_one_head
    from crkd.models.weights import WeightsReport, load_backbone_weights
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "architecture": "Architecture",
            "backbones.base": "BACKBONES Backbone",
            "backbones.build": "build_backbone",
            "build": "build_network",
            "flops": "Cost cost_of",
            "heads.incremental": "IncrementalHead",
            "heads.prototype": "LinearHead NovelHeads PrototypeHead",
            "heads.reviewed": "ReviewedHead",
            "network": "Network freeze with_one_head",
            "weights": "WeightsReport load_backbone_weights",
        },
    )

__all__ = [
    "BACKBONES",
    "Architecture",
    "Backbone",
    "Cost",
    "IncrementalHead",
    "LinearHead",
    "Network",
    "NovelHeads",
    "PrototypeHead",
    "ReviewedHead",
    "WeightsReport",
    "build_backbone",
    "build_network",
    "cost_of",
    "diswot",
    "freeze",
    "load_backbone_weights",
    "with_one_head",
]
