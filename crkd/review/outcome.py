"""Result of review decisions: new classes, and the new class of every image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.core.errors import InputError
from crkd.review.decision_entries import ClassDecision
from crkd.review.decisions import Decisions
from crkd.review.run_outputs import Evidence
from crkd.review.split_class import divide, part_directions

REJECTED = -1
PREDICTED_KNOWN = -2


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of the decisions on a run's M discovered classes.

    The new run has the K known classes, and after them the new ones.

    Attributes:
        targets: for each of them the class in the new run of each of its parts, one unless it is
            split; -1 for no class.
        names: names of the new classes.
        origins: for each new class the class ids of the reviewed run that are merged into it.
        sides: ``(parts, P)`` directions of each class that is split, by its position among the M.
        labels: ``(N,)`` class of every unlabeled image in the new run, or -1. Images that the model
            predicts as a known class have -1, those that a person put there have the class.
        by_person: ids of the images whose class a person chose.
        without_class: ``(N,)`` whether the review left an image no class: its class is rejected,
            or a person took it out.
    """

    targets: list[list[int]]
    names: list[str]
    origins: list[list[int]]
    sides: dict[int, Tensor]
    labels: NDArray[np.int64]
    by_person: frozenset[str]
    without_class: NDArray[np.bool_]


def outcome_of(evidence: Evidence, decisions: Decisions) -> Outcome:
    """Return the result of the decisions on the run's classes and images.

    New classes keep the order of the old ones; the parts of a split class follow each other.

    Raises:
        InputError: an image of a part does not belong to the split class.
    """
    num_known = evidence.num_known
    targets = _targets(decisions.classes, num_known)
    place = {image: row for row, image in enumerate(evidence.images.ids)}
    chosen = evidence.assigned.copy()
    earlier = {image: label for image, label in evidence.reviewed.items() if image in place}
    decided = [place[i] for i, label in earlier.items() if label.class_id is not None]
    # The model alone puts no image into a known class; a person or an earlier review does.
    chosen[np.setdiff1d(np.flatnonzero(chosen < num_known), decided)] = PREDICTED_KNOWN
    for image, label in earlier.items():
        if label.taken_out:
            chosen[place[image]] = -1
    for image, target in decisions.moved.items():
        chosen[place[image]] = -1 if target is None else target
    labels = np.where(chosen < num_known, np.maximum(chosen, -1), -1)
    sides = {}
    for decision in decisions.classes.values():
        rows = np.flatnonzero(chosen == decision.id)
        parts = np.zeros(len(rows), np.int64)
        if decision.parts:
            parts, directions = _parts(evidence, decision, rows, place)
            sides[decision.id - num_known] = torch.from_numpy(directions)
        labels[rows] = np.array(targets[decision.id])[parts]
    names = [name for decision in decisions.classes.values() for name in decision.names]
    origins = [
        [class_id for class_id, into in targets.items() if num_known + new in into]
        for new in range(len(names))
    ]
    by_person = {image for image, label in earlier.items() if label.by_person}
    by_person |= decisions.moved.keys()
    without_class = (labels < 0) & (chosen != PREDICTED_KNOWN)
    return Outcome(
        list(targets.values()), names, origins, sides, labels, frozenset(by_person), without_class
    )


def _targets(classes: dict[int, ClassDecision], num_known: int) -> dict[int, list[int]]:
    """Return the class in the new run of each part of each discovered class."""
    targets: dict[int, list[int]] = {}
    fresh = num_known
    for decision in classes.values():
        parts = [decision.name] if decision.action == "accept" else [p.name for p in decision.parts]
        targets[decision.id] = []
        for name in parts:
            targets[decision.id].append(REJECTED if name is None else fresh)
            fresh += name is not None

    def resolved(into: int, part: int | None) -> int:
        return into if into < num_known else targets[into][part or 0]

    for decision in classes.values():
        for number, part in enumerate(decision.parts):
            if part.into is not None:
                targets[decision.id][number] = resolved(part.into, None)
        if decision.action == "reject":
            targets[decision.id] = [REJECTED]
        elif decision.into is not None:
            targets[decision.id] = [resolved(decision.into, decision.part)]
    return targets


def _parts(
    evidence: Evidence, decision: ClassDecision, rows: NDArray[np.int64], place: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the part of each row of a split class, ``(n,)``, and the directions of the parts.

    Raises:
        InputError: an image of a part or a seed does not belong to the class.
    """
    projected, own = evidence.projected, evidence.assigned == decision.id
    if decision.seeds is not None:
        members = np.flatnonzero(own)
        seeds = [np.flatnonzero(members == place[image]) for image in decision.seeds]
        if not all(map(len, seeds)):
            raise _foreign(decision)
        _, directions = divide(projected[members], *(int(seed[0]) for seed in seeds))
        return _nearest(projected[rows], directions), directions
    part_of = np.full(len(own), -1)
    for number, part in enumerate(decision.parts):
        part_of[[place[image] for image in part.images]] = number
    if not np.isin(np.flatnonzero(part_of >= 0), rows).all():
        raise _foreign(decision)
    named = rows[part_of[rows] >= 0]
    directions = part_directions(projected[named], part_of[named], len(decision.parts))
    nearest = _nearest(projected[rows], directions)
    return np.where(part_of[rows] >= 0, part_of[rows], nearest), directions


def _nearest(rows: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.int64]:
    nearest: NDArray[np.int64] = (rows @ directions.T).argmax(axis=1)
    return nearest


def _foreign(decision: ClassDecision) -> InputError:
    return InputError(
        f"FILE splits class {decision.id} by images that do not belong to it; write the page again "
        "and decide there"
    )
