"""Distillation losses, one module each, registered in ``crkd.losses.term.TERMS``."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports
from crkd.losses.distillation.class_relation import ClassRelation, class_relation
from crkd.losses.distillation.kd import Kd, kd
from crkd.losses.distillation.lwf import Lwf, lwf

if TYPE_CHECKING:
    from crkd.losses.distillation.contrastive import Contrastive
    from crkd.losses.distillation.features import Features
    from crkd.losses.distillation.ferkd import FerKd
    from crkd.losses.distillation.fitnet import FitNet
    from crkd.losses.distillation.fkd import Fkd, soft_cross_entropy
    from crkd.losses.distillation.mlld import MLLD
    from crkd.losses.distillation.semckd import SemCKD
    from crkd.losses.distillation.simkd import SimKd
    from crkd.losses.distillation.srrl import Srrl
    from crkd.losses.distillation.tfkd_reg import TfKdReg, virtual_teacher
    from crkd.losses.distillation.tfkd_self import TfKdSelf
    from crkd.losses.distillation.tolerant import Tolerant, top_score_difference
    from crkd.losses.distillation.vid import Vid
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "contrastive": "Contrastive",
            "features": "Features",
            "ferkd": "FerKd",
            "fitnet": "FitNet",
            "fkd": "Fkd soft_cross_entropy",
            "mlld": "MLLD",
            "semckd": "SemCKD",
            "simkd": "SimKd",
            "srrl": "Srrl",
            "tfkd_reg": "TfKdReg virtual_teacher",
            "tfkd_self": "TfKdSelf",
            "tolerant": "Tolerant top_score_difference",
            "vid": "Vid",
        },
    )

__all__ = [
    "MLLD",
    "ClassRelation",
    "Contrastive",
    "Features",
    "FerKd",
    "FitNet",
    "Fkd",
    "Kd",
    "Lwf",
    "SemCKD",
    "SimKd",
    "Srrl",
    "TfKdReg",
    "TfKdSelf",
    "Tolerant",
    "Vid",
    "class_relation",
    "kd",
    "lwf",
    "soft_cross_entropy",
    "top_score_difference",
    "virtual_teacher",
]
