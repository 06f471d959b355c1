"""Whether two files of vectors may be compared."""

from __future__ import annotations

from typing import Any

from crkd.core.errors import InputError
from crkd.data.vectors.table import FeatureTable


def comparable_settings(embedding: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what must be equal for two files of vectors to be comparable."""
    if embedding is None:
        return None
    names = ("backbone", "weights_sha256", "preprocessing", "form")
    return {name: embedding.get(name) for name in names}


def check_same_embedding(
    table: FeatureTable, other: dict[str, Any] | None, first: str, second: str
) -> None:
    """Refuse vectors that were made otherwise; vectors of unknown origin are accepted.

    Args:
        table: vectors.
        other: how the other vectors were made, or None.
        first: name of the table, for messages.
        second: name of the other vectors.

    Raises:
        InputError: backbone, weights, preprocessing or form differ.
    """
    ours, theirs = comparable_settings(table.embedding), comparable_settings(other)
    if ours is None or theirs is None or ours == theirs:
        return
    name = next(key for key in ours if ours[key] != theirs[key])
    raise InputError(
        f"the vectors of {first} and {second} differ in {name} ({ours[name]!r}, "
        f"{theirs[name]!r}); embed both with the same settings"
    )
