"""Backbones, one module per family, registered in ``BACKBONES``."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.models.backbones.base import BACKBONES, Backbone, BackboneFactory
    from crkd.models.backbones.build import build_backbone
    from crkd.models.backbones.cifar_resnet import CifarResNet
    from crkd.models.backbones.resnet import ResNet
    from crkd.models.backbones.simkd_projector import ProjectedBackbone
    from crkd.models.backbones.timm_models import TimmBackbone
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "base": "BACKBONES Backbone BackboneFactory",
            "build": "build_backbone",
            "cifar_resnet": "CifarResNet",
            "resnet": "ResNet",
            "simkd_projector": "ProjectedBackbone",
            "timm_models": "TimmBackbone",
        },
    )

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneFactory",
    "CifarResNet",
    "ProjectedBackbone",
    "ResNet",
    "TimmBackbone",
    "build_backbone",
]
