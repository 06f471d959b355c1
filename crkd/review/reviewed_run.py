"""Reviewed run of a decisions file, for commands that continue from it."""

from __future__ import annotations

from pathlib import Path

import torch

from crkd.core.errors import InputError
from crkd.review.apply import apply_review
from crkd.runs.folder import RunFolder
from crkd.runs.search import free_folder


def named_run(path: str | Path, file: Path, *, device: torch.device) -> Path:
    """Return the reviewed run of another run; it is created unless it exists.

    It is in the same folder as the reviewed run and is called ``RUN-reviewed``, with a number if
    that name is used for other decisions.

    Args:
        path: the run that was reviewed.
        file: decisions saved by its page.
        device: device of the network.

    Raises:
        InputError: the run or the file is unusable.
    """
    parent = RunFolder.open(path).path
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"--decisions {file} cannot be read ({error.strerror})") from None
    place = parent.with_name(f"{parent.name}-reviewed")
    for folder in (place, *sorted(parent.parent.glob(f"{place.name}-*"))):
        kept = folder / "decisions.json"
        if kept.is_file() and kept.read_bytes() == content and _is_complete(folder):
            return folder
    return apply_review(parent, file, free_folder(place), device=device, images=None)[0].path


def _is_complete(folder: Path) -> bool:
    return RunFolder.open(folder).read_info().status == "complete"
