"""Notes on the outputs of a run, which do not hold for a run that is made from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

DISPUTED: Final = "unlabeled images look like known classes, see"
UNUSED: Final = "next to no image ("
ALIKE: Final = "may be one class: "
FAR: Final = "unlabeled images are far from all others, see"
STUDENT: Final = "this student: "
AGREEMENT: Final = "student and teacher predict the same class for "
_OF_OUTPUTS: Final = (DISPUTED, UNUSED, ALIKE, FAR, STUDENT, AGREEMENT)
"""Words of these notes."""


def inherited(notes: Iterable[str]) -> list[str]:
    """Return the notes that also hold for the student or the reviewed run of a run.

    >>> inherited(["stage 1 has seed 1, this run has seed 0", f"{ALIKE}novel-0 and novel-1"])
    ['stage 1 has seed 1, this run has seed 0']
    """
    return [note for note in notes if not any(words in note for words in _OF_OUTPUTS)]
