"""Evaluation of a run from its prediction table, under every protocol; NumPy only, no torch."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports
from crkd.evaluation.confusion import Confusion, confusion, draw_confusion

if TYPE_CHECKING:
    from crkd.evaluation.calibration import (
        Calibration,
        calibrate,
        expected_calibration_error,
        probabilities,
    )
    from crkd.evaluation.matching import clustering_accuracy, contingency, match
    from crkd.evaluation.predictions import Predictions
    from crkd.evaluation.predictions_file import load_predictions, save_predictions
    from crkd.evaluation.protocols import (
        Outcome,
        apply_cluster_map,
        fit_cluster_map,
        joint_hungarian,
        supervised,
        task_agnostic,
        task_aware,
    )
    from crkd.evaluation.report import PROTOCOLS, cluster_map, evaluate
    from crkd.evaluation.scores import class_accuracy, score
    from crkd.evaluation.steps import draw_steps, forgetting, group_accuracy, parse_plan
    from crkd.evaluation.tables import compare_table, protocol_table
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "calibration": "Calibration calibrate expected_calibration_error probabilities",
            "matching": "clustering_accuracy contingency match",
            "predictions": "Predictions",
            "predictions_file": "load_predictions save_predictions",
            "protocols": (
                "Outcome apply_cluster_map fit_cluster_map joint_hungarian supervised "
                "task_agnostic task_aware"
            ),
            "report": "PROTOCOLS cluster_map evaluate",
            "scores": "class_accuracy score",
            "steps": "draw_steps forgetting group_accuracy parse_plan",
            "tables": "compare_table protocol_table",
        },
    )

__all__ = [
    "PROTOCOLS",
    "Calibration",
    "Confusion",
    "Outcome",
    "Predictions",
    "apply_cluster_map",
    "calibrate",
    "class_accuracy",
    "cluster_map",
    "clustering_accuracy",
    "compare_table",
    "confusion",
    "contingency",
    "draw_confusion",
    "draw_steps",
    "evaluate",
    "expected_calibration_error",
    "fit_cluster_map",
    "forgetting",
    "group_accuracy",
    "joint_hungarian",
    "load_predictions",
    "match",
    "parse_plan",
    "probabilities",
    "protocol_table",
    "save_predictions",
    "score",
    "supervised",
    "task_agnostic",
    "task_aware",
]
