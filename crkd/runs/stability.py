"""The stability of the novel classes of a run in its folder."""

from __future__ import annotations

from typing import Final

from crkd.core.errors import InputError
from crkd.core.fields import is_finite
from crkd.runs.atomic_files import read_json, write_json
from crkd.runs.folder import RunFolder

FILE: Final = "stability.json"


def write_stability(run: RunFolder, values: dict[str, float]) -> None:
    """Write ``stability.json``: for each novel class, by name, a value in [0, 1]."""
    write_json(run.path / FILE, values)


def read_stability(run: RunFolder) -> dict[str, float]:
    """Return the stability of each novel class by name; empty where it is not measured.

    Raises:
        InputError: the file is damaged.
    """
    path = run.path / FILE
    if not path.is_file():
        return {}
    values = read_json(path)
    sound = isinstance(values, dict) and all(map(is_finite, values.values()))
    if not sound:
        raise InputError(f"{path} is damaged; restore it, or remove it")
    return dict(values)
