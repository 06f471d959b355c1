"""Files of a step with a non-finite loss, for inspection and replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from torch import Tensor

from crkd.data.loader import BatchLoader
from crkd.runs.atomic_files import write_json
from crkd.runs.folder import RunFolder
from crkd.training.distributed import is_rank_zero

FILE: Final = "failed-step.json"


def write_failed_step(
    run: RunFolder, loader: BatchLoader, *, stage: str, step: int, terms: Sequence[str], rate: float
) -> None:
    """Write ``failed-step.json``.

    A batch is a pure function of seed and step, so ``loader.batches(step, step + 1)`` returns the
    same images again; the file holds their numbers and the ranges of their views.

    Args:
        run: the folder.
        loader: of the run.
        stage: of the run.
        step: the first whose loss was not finite, counted from 0.
        terms: names of what was not finite.
        rate: learning rate at the last step before the loss was looked at.
    """
    if not is_rank_zero():
        return
    batch = next(loader.batches(step, step + 1))
    write_json(
        run.path / FILE,
        {
            "stage": stage,
            "step": step,
            "seed": loader.seed,
            "terms": list(terms),
            "lr": rate,
            "num_labeled": batch.num_labeled,
            "sample_id": batch.sample_id.tolist(),
            "view_epoch": batch.view_epoch.tolist(),
            "labels": batch.labels.tolist(),
            "views": [ranges(view) for view in batch.views],
        },
    )


def ranges(values: Tensor) -> Mapping[str, Any]:
    """Return smallest and largest finite value, and how many values are not finite.

    >>> import torch
    >>> ranges(torch.tensor([0.5, -1.0, float("nan")]))
    {'min': -1.0, 'max': 0.5, 'not_finite': 1}
    """
    finite = values[values.isfinite()]
    return {
        "min": float(finite.min()) if len(finite) else None,
        "max": float(finite.max()) if len(finite) else None,
        "not_finite": values.numel() - finite.numel(),
    }
