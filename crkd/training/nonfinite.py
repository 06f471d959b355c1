"""Values that are not finite: a search in the weights, and the record of a step that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

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
        step: the first whose loss was not finite, or the last before weights were found that are
            not; counted from 0.
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


def first_not_finite(modules: nn.Module) -> str | None:
    """Return the name of the first parameter with a value that is not finite, or None.

    The device is read once.

    >>> layer = nn.Linear(2, 1)
    >>> first_not_finite(layer)
    >>> _ = layer.bias.data.fill_(float("inf"))
    >>> first_not_finite(layer)
    'bias'
    """
    named = list(modules.named_parameters())
    if not named:
        return None
    bad = torch.stack([~values.detach().isfinite().all() for _, values in named]).tolist()
    return next((name for (name, _), wrong in zip(named, bad, strict=True) if wrong), None)


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
