"""File of a session of a plan: the ids of its unlabeled training images, one a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crkd.core.errors import InputError
from crkd.data.splits.partition import Subsets


def write_session(path: Path, ids: Sequence[str]) -> None:
    """Write the file of a session.

    Args:
        path: the file.
        ids: unique names of images.
    """
    path.write_bytes("".join(f"{name}\n" for name in ids).encode("utf-8", "surrogateescape"))


def only_session(parts: Subsets, path: Path) -> Subsets:
    """Return the subsets with the unlabeled training images of a session alone.

    Args:
        parts: of a run; the images of the session are among the unlabeled ones.
        path: the file of the session.

    Raises:
        InputError: the file cannot be read, names no image, or names one that is not an unlabeled
            image of the run.
    """
    try:
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except OSError as error:
        raise InputError(
            f"cannot read data.session {str(path)!r}: {error.strerror}; restore the file of the "
            "plan"
        ) from error
    wanted = {line for line in lines if line}
    ids = parts.unlabeled.ids
    kept = np.array([name in wanted for name in ids], np.bool_)
    if not wanted or kept.sum() < len(wanted):
        foreign = sorted(wanted.difference(ids))
        first = f", such as {foreign[0]!r}" if foreign else ""
        raise InputError(
            f"data.session {str(path)!r} names {len(wanted)} images, of which {len(foreign)} are "
            f"not among the unlabeled training images of this run{first}; restore the file of the "
            "plan"
        )
    return parts.without_unlabeled(~kept)
