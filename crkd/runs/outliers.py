"""The threshold of a run above which an image fits none of its classes."""

from __future__ import annotations

import math
from typing import Final

from crkd.core.errors import InputError
from crkd.runs.atomic_files import read_json, write_json
from crkd.runs.folder import RunFolder

FILE: Final = "outliers.json"


def write_threshold(run: RunFolder, threshold: float, *, false_alarms: float) -> None:
    """Write ``outliers.json``.

    Args:
        run: the folder.
        threshold: an image with a larger novelty score fits no class.
        false_alarms: share of the run's own samples that may exceed it.
    """
    write_json(run.path / FILE, {"threshold": threshold, "false_alarms": false_alarms})


def read_threshold(run: RunFolder) -> float | None:
    """Return the threshold of a run; None for a run without one.

    Raises:
        InputError: the file is damaged.
    """
    path = run.path / FILE
    if not path.is_file():
        return None
    values = read_json(path)
    threshold = values.get("threshold") if isinstance(values, dict) else None
    if type(threshold) is not float or not math.isfinite(threshold):
        raise InputError(f"{path} is damaged; restore it, or remove it to go without outliers")
    return threshold
