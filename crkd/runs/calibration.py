"""The temperature of a run in its folder."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from crkd.core.counted import counted
from crkd.core.errors import InputError
from crkd.core.fields import is_finite
from crkd.evaluation.calibration import MIN_IMAGES, Calibration
from crkd.runs.atomic_files import read_json, write_json
from crkd.runs.folder import RunFolder

FILE: Final = "calibration.json"
MAX_FRACTION: Final = 0.5
"""Largest ``data.validation_fraction``."""


def write_calibration(run: RunFolder, found: Calibration) -> None:
    """Write ``calibration.json``."""
    write_json(run.path / FILE, dataclasses.asdict(found))


def read_calibration(run: RunFolder) -> Calibration | None:
    """Read a run's temperature; None where it has none.

    Raises:
        InputError: the file is damaged.
    """
    path = run.path / FILE
    if not path.is_file():
        return None
    values = read_json(path)
    names = {field.name for field in dataclasses.fields(Calibration)}
    sound = (
        isinstance(values, dict)
        and values.keys() == names
        and all(map(is_finite, values.values()))
        and values["temperature"] > 0
    )
    if not sound:
        raise InputError(f"{path} is damaged; restore it, or remove it to go without")
    return Calibration(**values)


def missing_temperature(run: RunFolder) -> str:
    """Return why a run has no temperature, as the end of a sentence."""
    metrics = run.read_metrics() if (run.path / "metrics.json").is_file() else {}
    known = metrics.get("validation", {}).get("known", {})
    if not known:
        return "the run held out no known images"
    count = known.get("num_images")
    if count is not None and count < MIN_IMAGES:
        return (
            f"the run held out {counted(count, 'known image')}, and a temperature needs "
            f"{MIN_IMAGES}; give more known images{_larger_fraction(run, count)}"
        )
    return "the held-out known images determine no temperature, e.g. because all are right"


def _larger_fraction(run: RunFolder, count: int) -> str:
    """Return how to hold out enough of the same images; nothing if no allowed fraction does."""
    fraction = run.read_config().data.validation_fraction
    # Twentieths, rounded up: the images of each class are a whole number.
    wanted = math.ceil(20 * fraction * MIN_IMAGES / count) / 20 if count else math.inf
    if not 0 < wanted <= MAX_FRACTION:
        return ""
    return f", or hold out more of them (--set data.validation_fraction={wanted:g})"
