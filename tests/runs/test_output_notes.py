"""Notes on the outputs of a run: those that its functions write are recognized."""

from __future__ import annotations

from crkd.runs.output_notes import inherited
from crkd.stages.discover.cluster_report import sentences
from crkd.stages.distill.notes import agreement

KEPT = [
    "number of novel classes as given by --num-novel",
    "4 of 9 unlabeled samples look like known classes by estimate, and a discovery divides them",
]


def test_a_run_made_from_another_does_not_inherit_notes_on_outputs() -> None:
    pair = {"classes": ["novel-0", "novel-1"]}
    found = sentences({"unused": ["novel-2"], "merge": [pair], "rejected": 3})
    assert len(found) == 3
    assert inherited([KEPT[0], *found, agreement({}, {}), KEPT[1]]) == KEPT
