"""Calibration of the test for vectors that fit no class of a discovery."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.kmeans import Floats, unit_rows
from crkd.clustering.novelty.energy import (
    Scores,
    carried_threshold,
    energy_scores,
    energy_threshold,
)
from crkd.clustering.novelty.outlier_score import NEIGHBOR, OutlierScore, Scale
from crkd.core.errors import InputError
from crkd.core.shuffle import stable_shuffle
from crkd.data.splits.partition import Subset
from crkd.runs.atomic_files import load_tensors, save_tensors
from crkd.runs.folder import RunFolder
from crkd.runs.outliers import JOINED, OutlierEntry, read_outliers, write_outliers
from crkd.stages.vectors.data import VectorData
from crkd.stages.vectors.gate import Gate

FALSE_ALARMS: Final = 0.05
"""Largest share of the vectors of a run's own classes that are called outliers."""
DRAWN: Final = 200
"""Rows drawn of every class whose vectors are not kept."""
SCALES: Final = ("energy", "distance")
REFERENCE: Final = "outliers.safetensors"
"""Vectors with which others are compared. This test alone reads them; no class is learned from
them."""
MOST_ROWS: Final = 2_000
"""Reference vectors of a run, at most."""

VectorTest = Callable[[Floats, Floats | None], NDArray[np.bool_]]
"""Returns which of N vectors fit no class, ``(N,)``, by their rows ``(N, k)`` in the space of the
gate and by the vectors ``(N, D)`` themselves, which a run without reference vectors does not read.
"""


def calibrate_outliers(
    run: RunFolder,
    gate: Gate,
    data: VectorData,
    novel: Subset,
    parent: tuple[RunFolder, Gate] | None,
) -> None:
    """Find the thresholds of a discovery and write ``outliers.json`` and the reference vectors.

    They are found on the held-out known vectors, or else on the labeled ones, and on unlabeled
    vectors; of many on a sample. No label is used. Where no vectors of the earlier classes are
    left, the thresholds of the parent are carried over: that of the energy by rows that are drawn
    from the Gaussians of the classes, that of the joined score by the parent's reference vectors.

    Args:
        run: the folder.
        gate: of the discovery; its logits of all classes give the energies.
        data: vectors of the run.
        novel: its unlabeled vectors, without those that a review left no class: they would set a
            threshold that their kind never exceeds.
        parent: the run from which this run was made, and its gate; None for a first discovery.
    """
    subsets = data.subsets
    known = data.fitted_validation if len(subsets.known_val) else data.fitted_known
    groups = [data.of(part).numpy() for part in (known, novel) if len(part)]
    energies = [_energies(gate, vectors) for vectors in groups]
    threshold = energy_threshold(energies, false_alarms=FALSE_ALARMS)
    earlier = None if len(known) else parent
    entry = None if earlier is None else read_outliers(earlier[0])
    if earlier is not None and entry is not None:
        drawn = unit_rows(earlier[1].memory.sample(DRAWN, seed=0)[0])
        scores = [energy_scores(each.scores(drawn)) for each in (earlier[1], gate)]
        threshold = max(threshold, carried_threshold(entry.threshold, *scores))
    found = _joined_score(gate, data, novel, groups, energies, earlier)
    if found is not None:
        score, tensors = found
        save_tensors(run.path / REFERENCE, tensors, {"rows": len(score.reference)})
    joined = None if found is None else _plain(found[0])
    write_outliers(run, OutlierEntry(threshold, joined), false_alarms=FALSE_ALARMS)


def vector_test(run: RunFolder, gate: Gate) -> VectorTest | None:
    """Return the test for vectors that fit no class of a run.

    Args:
        run: the folder.
        gate: of its discovery.

    Returns:
        None for a run without a threshold, and for a run of one class without reference vectors:
        its free energy is the same for every vector.

    Raises:
        InputError: ``outliers.json`` or the file of reference vectors is missing or damaged.
    """
    entry = read_outliers(run)
    score = None if entry is None else read_score(run, entry)
    if entry is None or (score is None and sum(gate.sizes) == 1):
        return None

    def beyond(rows: Floats, vectors: Floats | None) -> NDArray[np.bool_]:
        energies = energy_scores(gate.scores(rows))
        if score is None:
            return np.asarray(energies > entry.threshold)
        if vectors is None:
            raise ValueError("the vectors of the samples are missing")
        return np.asarray(score.scores(energies, vectors) > score.threshold)

    return beyond


def read_score(run: RunFolder, entry: OutlierEntry) -> OutlierScore | None:
    """Return the joined score of a run; None for a run that keeps no reference vectors.

    Args:
        run: the folder.
        entry: from :func:`~crkd.runs.outliers.read_outliers`.

    Raises:
        InputError: the file of reference vectors is missing or damaged.
    """
    if entry.joined is None:
        return None
    path, values = run.path / REFERENCE, entry.joined
    if not path.is_file():
        raise InputError(f"{path} is missing; restore it, or remove outliers.json next to it")
    tensors = load_tensors(path)[0]
    unit, lengths = tensors.get("unit"), tensors.get("lengths")
    if (
        unit is None
        or lengths is None
        or unit.ndim != 2
        or lengths.shape != unit.shape[:1]
        or len(unit) <= NEIGHBOR
    ):
        raise InputError(f"{path} does not hold reference vectors; restore it")
    energy, distance = (
        Scale(values[f"{name}.center"], values[f"{name}.spread"]) for name in SCALES
    )
    return OutlierScore(_reference_of(tensors), energy, distance, values["threshold"])


def _joined_score(
    gate: Gate,
    data: VectorData,
    novel: Subset,
    groups: Sequence[Floats],
    energies: Sequence[Scores],
    earlier: tuple[RunFolder, Gate] | None,
) -> tuple[OutlierScore, dict[str, Tensor]] | None:
    """Return the score of energy and distance, and the tensors of its reference vectors.

    None where there are too few of them, or none of the earlier classes.

    Args:
        gate: of the discovery.
        data: vectors of the run.
        novel: its unlabeled vectors of a class.
        groups: vectors that set the threshold.
        energies: of each group.
        earlier: the parent where no vectors of its classes are left.
    """
    old, new = sum(gate.sizes[:-1]), gate.sizes[-1]
    before = None
    if earlier is not None:
        entry = read_outliers(earlier[0])
        before = None if entry is None else read_score(earlier[0], entry)
        if before is None:
            # Vectors of earlier classes would be far from all reference vectors.
            return None
    known = data.of(data.fitted_known).numpy() if before is None else before.reference
    parts = [(known, old), (data.of(novel).numpy(), new)]
    tensors = _stored_reference(parts, data.config.seed)
    # A threshold that is found before the rounding can be just below a score after it.
    reference = _reference_of(tensors)
    if len(reference) <= NEIGHBOR:
        return None
    fitted = list(zip(energies, groups, strict=True))
    if before is None or earlier is None:
        return OutlierScore.fit(reference, fitted, false_alarms=FALSE_ALARMS), tensors
    kept = before.reference
    now = _energies(gate, kept)
    score = OutlierScore.fit(reference, [*fitted, (now, kept)], false_alarms=FALSE_ALARMS)
    carried = carried_threshold(
        before.threshold, before.scores(_energies(earlier[1], kept), kept), score.scores(now, kept)
    )
    threshold = max(score.threshold, carried)
    return OutlierScore(reference, score.energy, score.distance, threshold), tensors


def _stored_reference(parts: Sequence[tuple[Floats, int]], seed: int) -> dict[str, Tensor]:
    """Return rows of all parts as they are stored, of each as many as its share of the classes.

    They are at unit length in half precision, with their lengths.

    Args:
        parts: vectors ``(n, D)`` and their number of classes.
        seed: of the choice.
    """
    classes = sum(count for _, count in parts)
    chosen = []
    for number, (vectors, count) in enumerate(parts):
        order = stable_shuffle(len(vectors), seed, stream=number)
        chosen.append(vectors[np.sort(order[: round(MOST_ROWS * count / classes)])])
    reference = np.concatenate(chosen)
    lengths = np.linalg.norm(reference, axis=1).astype(np.float32)
    unit = torch.from_numpy(unit_rows(reference)).half()
    return {"unit": unit, "lengths": torch.from_numpy(lengths)}


def _energies(gate: Gate, vectors: Floats) -> Scores:
    return energy_scores(gate.scores(gate.space.rows(vectors)))


def _plain(score: OutlierScore) -> dict[str, float]:
    scales = (score.energy, score.distance)
    return dict(zip(JOINED, (score.threshold, *scales[0], *scales[1]), strict=True))


def _reference_of(tensors: Mapping[str, Tensor]) -> Floats:
    rows: Floats = tensors["unit"].float().numpy() * tensors["lengths"].numpy()[:, None]
    return rows
