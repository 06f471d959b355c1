"""Recorded results of a run for the review page: metrics, curves, configuration."""

from __future__ import annotations

from typing import Any, Final

from crkd.config.load import dump_config
from crkd.core.errors import InputError
from crkd.evaluation.confusion import confusion
from crkd.evaluation.predictions_file import load_predictions
from crkd.evaluation.table_rows import shown_protocols
from crkd.models.architecture import Architecture
from crkd.runs.folder import RunFolder
from crkd.runs.load import OpenedRun
from crkd.training.loggers.base import NO_SERIES, logged

MAX_STEPS: Final = 400
"""Maximum number of points of a curve; longer logs are thinned evenly."""
MAX_CONFUSED: Final = 250
"""Maximum number of rows and columns of a drawn confusion matrix."""


def recorded(opened: OpenedRun) -> dict[str, Any]:
    """Return the page's blocks ``confusion``, ``accuracy``, ``curves``, ``facts`` and ``config``.

    Blocks without data are None or empty.
    """
    info = opened.info
    return {
        "confusion": _confusion(opened.run),
        "accuracy": _accuracy(opened.run),
        "curves": curves(opened.run),
        "facts": {
            "run": str(opened.run.path),
            "model SHA-256": info.model_sha256,
            "data": f"{info.dataset}, split {info.split['name']}",
            "classes": f"{info.num_known} known, {info.num_novel} novel",
            "backbone": _backbone(opened.architecture),
            "chosen head": f"{info.chosen_head} of {opened.architecture.num_heads}",
            "seed": str(info.seed),
            "finished": info.finished or "",
            "training": f"{info.seconds:,.0f} s",
            "notes": "\n".join(info.notes),
        },
        "config": dump_config(opened.config),
    }


def _backbone(architecture: Architecture) -> str:
    if architecture.on_vectors:
        return f"vectors of {architecture.image_size:,} numbers"
    return f"{architecture.backbone}, {architecture.image_size} px"


def curves(run: RunFolder) -> dict[str, list[list[float]]]:
    """Return every series of the run's log: its ``[epoch, value]`` pairs, thinned."""
    series: dict[str, list[list[float]]] = {}
    for row in logged(run):
        for name, value in row.items():
            if name not in NO_SERIES and type(value) in (int, float):
                series.setdefault(name, []).append([row["epoch"], float(f"{value:.5g}")])
    return {name: _thinned(pairs) for name, pairs in series.items() if len(pairs) > 1}


def _thinned(pairs: list[list[float]]) -> list[list[float]]:
    step = -(-len(pairs) // MAX_STEPS)
    return pairs[::step] if (len(pairs) - 1) % step == 0 else [*pairs[::step], pairs[-1]]


def _confusion(run: RunFolder) -> dict[str, Any] | None:
    path = run.path / "predictions.parquet"
    if not path.is_file():
        return None
    predictions = load_predictions(path)
    for part in ("test", "train"):
        try:
            matrix = confusion(predictions, part)
        except InputError:
            # No image of this part has a label, which is usual for own images.
            continue
        if max(matrix.counts.shape) > MAX_CONFUSED:
            return None
        return {
            "part": part,
            "true": matrix.true_names,
            "predicted": matrix.predicted_names,
            "num_known": matrix.num_known,
            "counts": matrix.counts.tolist(),
        }
    return None


def _accuracy(run: RunFolder) -> list[dict[str, Any]]:
    if not (run.path / "metrics.json").is_file():
        return []
    metrics = run.read_metrics()
    return [
        {"protocol": protocol, "part": part, "group": group, **score}
        for protocol in shown_protocols(metrics)
        for part, groups in metrics[protocol].items()
        for group, score in groups.items()
        if score["num_images"] and score["acc"] is not None
    ]
