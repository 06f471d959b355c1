"""Training losses: pure functions, and modules for losses with trained parameters."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports
from crkd.losses.swapped_prediction import swapped_prediction

if TYPE_CHECKING:
    from crkd.losses.rank_statistics import pairwise_agreement, same_ranks
    from crkd.losses.simgcd import entropy_gap, self_distillation
    from crkd.losses.soft_labels import LabelMode, label_mode
    from crkd.losses.supervised import cross_entropy
    from crkd.losses.targets import joint_targets
    from crkd.losses.tensor_losses import (
        ClassRelationLoss,
        ContrastiveLoss,
        FeatureLoss,
        FerKDLoss,
        FitNetLoss,
        FKDLoss,
        KDLoss,
        LwFLoss,
        MLLDLoss,
        SelfTeacherLoss,
        SemCKDLoss,
        SimKDLoss,
        SRRLLoss,
        TensorLoss,
        TopScoreLoss,
        VIDLoss,
        VirtualTeacherLoss,
    )
    from crkd.losses.term import (
        TERMS,
        DistillationInputs,
        DistillationTerm,
        TermContext,
        build_term,
        terms_for,
    )
    from crkd.losses.view_contrast import contrast, supervised_contrast
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "rank_statistics": "pairwise_agreement same_ranks",
            "simgcd": "entropy_gap self_distillation",
            "soft_labels": "LabelMode label_mode",
            "supervised": "cross_entropy",
            "targets": "joint_targets",
            "tensor_losses": (
                "ClassRelationLoss ContrastiveLoss FKDLoss FeatureLoss FerKDLoss FitNetLoss "
                "KDLoss LwFLoss MLLDLoss SRRLLoss SelfTeacherLoss SemCKDLoss SimKDLoss "
                "TensorLoss TopScoreLoss VIDLoss VirtualTeacherLoss"
            ),
            "term": "TERMS DistillationInputs DistillationTerm TermContext build_term terms_for",
            "view_contrast": "contrast supervised_contrast",
        },
    )

__all__ = [
    "TERMS",
    "ClassRelationLoss",
    "ContrastiveLoss",
    "DistillationInputs",
    "DistillationTerm",
    "FKDLoss",
    "FeatureLoss",
    "FerKDLoss",
    "FitNetLoss",
    "KDLoss",
    "LabelMode",
    "LwFLoss",
    "MLLDLoss",
    "SRRLLoss",
    "SelfTeacherLoss",
    "SemCKDLoss",
    "SimKDLoss",
    "TensorLoss",
    "TermContext",
    "TopScoreLoss",
    "VIDLoss",
    "VirtualTeacherLoss",
    "build_term",
    "contrast",
    "cross_entropy",
    "entropy_gap",
    "joint_targets",
    "label_mode",
    "pairwise_agreement",
    "same_ranks",
    "self_distillation",
    "supervised_contrast",
    "swapped_prediction",
    "terms_for",
]
