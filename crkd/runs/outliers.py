"""Outlier thresholds of a run, for images that fit none of its classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crkd.core.errors import InputError
from crkd.runs.atomic_files import read_json, write_json
from crkd.runs.folder import RunFolder

FILE: Final = "outliers.json"


@dataclass(frozen=True)
class OutlierEntry:
    """The content of ``outliers.json``.

    Attributes:
        threshold: a sample with a larger free energy fits no class, by the energy alone.
        joined: of the score of energy and distance: ``threshold``, and ``center`` and ``spread`` of
            ``energy`` and ``distance``, as dotted keys; None for a run that keeps no reference
            rows, as those of earlier versions.
    """

    threshold: float
    joined: Mapping[str, float] | None = None


JOINED: Final = (
    "threshold",
    *(f"{score}.{part}" for score in ("energy", "distance") for part in ("center", "spread")),
)


def write_outliers(run: RunFolder, entry: OutlierEntry, *, false_alarms: float) -> None:
    """Write ``outliers.json``.

    Args:
        run: the folder.
        entry: the content.
        false_alarms: share of the run's own samples that may exceed each threshold.
    """
    values: dict[str, Any] = {"threshold": entry.threshold, "false_alarms": false_alarms}
    if entry.joined is not None:
        values["joined"] = dict(entry.joined)
    write_json(run.path / FILE, values)


def read_outliers(run: RunFolder) -> OutlierEntry | None:
    """Return what a run knows of outliers; None for a run without a threshold.

    Raises:
        InputError: the file is damaged.
    """
    path = run.path / FILE
    if not path.is_file():
        return None
    values = read_json(path)
    sound = isinstance(values, dict) and _is_number(values.get("threshold"))
    joined = values.get("joined") if sound else None
    if joined is not None:
        sound = (
            isinstance(joined, dict)
            and joined.keys() == set(JOINED)
            and all(_is_number(value) for value in joined.values())
            and min(joined["energy.spread"], joined["distance.spread"]) > 0
        )
    if not sound:
        raise InputError(f"{path} is damaged; restore it, or remove it to go without outliers")
    return OutlierEntry(values["threshold"], joined)


def _is_number(value: object) -> bool:
    return type(value) is float and math.isfinite(value)
