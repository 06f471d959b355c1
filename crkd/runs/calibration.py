"""The temperature of a run in its folder."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from crkd.core.errors import InputError
from crkd.evaluation.calibration import Calibration
from crkd.runs.atomic_files import read_json, write_json
from crkd.runs.folder import RunFolder

FILE: Final = "calibration.json"


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
        and all(type(value) in (int, float) and math.isfinite(value) for value in values.values())
        and values["temperature"] > 0
    )
    if not sound:
        raise InputError(f"{path} is damaged; restore it, or remove it to go without")
    return Calibration(**values)
