"""The files of vectors of a run, also after run and files were moved."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from crkd.runs.folder import RunFolder

FOLDER: Final = "vectors"
"""Folder next to a run in which discovery keeps the vectors of own images."""


def vector_files(run: RunFolder) -> tuple[str, ...]:
    """Return the paths of the files of vectors that a run names, in its order.

    A path may be relative to the folder in which discovery ran. Where it leads nowhere, the file of
    the same name in the folder ``vectors`` next to the run takes its place, if there is one.

    Args:
        run: the folder.
    """
    near = run.path.absolute().parent / FOLDER
    found = []
    for name in run.read_config().data.features:
        moved = near / Path(name).name
        found.append(str(moved) if moved.is_file() and not Path(name).exists() else name)
    return tuple(found)
