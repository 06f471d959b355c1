"""Evaluation of a run from its prediction table, under every protocol; NumPy only, no torch."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports
from crkd.evaluation.confusion import Confusion, confusion, draw_confusion

if TYPE_CHECKING:
    from crkd.evaluation.any_method import evaluate_outputs
    from crkd.evaluation.calibration import (
        Calibration,
        calibrate,
        expected_calibration_error,
        probabilities,
    )
    from crkd.evaluation.hungarian import joint_hungarian, novel_hungarian, separate_hungarian
    from crkd.evaluation.matching import clustering_accuracy, contingency, match
    from crkd.evaluation.predictions import Predictions
    from crkd.evaluation.predictions_file import load_predictions, save_predictions
    from crkd.evaluation.protocol_list import PROTOCOLS, Protocol
    from crkd.evaluation.protocols import (
        Outcome,
        apply_cluster_map,
        fit_cluster_map,
        supervised,
        task_agnostic,
        task_aware,
    )
    from crkd.evaluation.report import cluster_map, evaluate
    from crkd.evaluation.scores import class_accuracy, score
    from crkd.evaluation.steps import draw_steps, forgetting, group_accuracy, parse_plan
    from crkd.evaluation.tables import compare_table, protocol_table
    from crkd.evaluation.text_tables import csv_table, latex_table
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "any_method": "evaluate_outputs",
            "calibration": "Calibration calibrate expected_calibration_error probabilities",
            "hungarian": "joint_hungarian novel_hungarian separate_hungarian",
            "matching": "clustering_accuracy contingency match",
            "predictions": "Predictions",
            "predictions_file": "load_predictions save_predictions",
            "protocol_list": "PROTOCOLS Protocol",
            "protocols": (
                "Outcome apply_cluster_map fit_cluster_map supervised task_agnostic task_aware"
            ),
            "report": "cluster_map evaluate",
            "scores": "class_accuracy score",
            "steps": "draw_steps forgetting group_accuracy parse_plan",
            "tables": "compare_table protocol_table",
            "text_tables": "csv_table latex_table",
        },
    )

__all__ = [
    "PROTOCOLS",
    "Calibration",
    "Confusion",
    "Outcome",
    "Predictions",
    "Protocol",
    "apply_cluster_map",
    "calibrate",
    "class_accuracy",
    "cluster_map",
    "clustering_accuracy",
    "compare_table",
    "confusion",
    "contingency",
    "csv_table",
    "draw_confusion",
    "draw_steps",
    "evaluate",
    "evaluate_outputs",
    "expected_calibration_error",
    "fit_cluster_map",
    "forgetting",
    "group_accuracy",
    "joint_hungarian",
    "latex_table",
    "load_predictions",
    "match",
    "novel_hungarian",
    "parse_plan",
    "probabilities",
    "protocol_table",
    "save_predictions",
    "score",
    "separate_hungarian",
    "supervised",
    "task_agnostic",
    "task_aware",
]
