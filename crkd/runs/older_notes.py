"""Own notes of runs whose ``run.json`` does not list them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_WORDS: Final = (
    "unlabeled images look like known classes, see",
    "next to no image (",
    "may be one class: ",
    "unlabeled images are far from all others, see",
    "this student: ",
    "student and teacher predict the same class for ",
)
"""Words of these notes as earlier versions wrote them; sentences of this version may differ."""


def own_notes_by_words(notes: Iterable[str]) -> list[str]:
    """Return the notes of an older run that hold for this run alone.

    >>> own_notes_by_words(["stage 1 has seed 1", "may be one class: novel-0 and novel-1"])
    ['may be one class: novel-0 and novel-1']
    """
    return [note for note in notes if any(words in note for words in _WORDS)]
