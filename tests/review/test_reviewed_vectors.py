"""What a review of a run on vectors learns from: its classes, and a sample of very many images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.review import reviewed_vectors
from crkd.review.outcome import Outcome
from crkd.review.reviewed_vectors import reviewed_discovery
from crkd.runs.folder import RunFolder
from crkd.stages.vectors import sampling
from crkd.stages.vectors.data import VectorData
from crkd.stages.vectors.discovery import VectorDiscovery, relabeled
from crkd.stages.vectors.run import data_of_run, discover_vectors
from crkd.stages.vectors.start import opened_discovery
from crkd.stages.vectors.state import state_of
from tests.support.vector_clouds import EACH, KMEANS, KNOWN, NOVEL, cloud_files, config_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    files = cloud_files(tmp_path_factory.mktemp("features"))
    return discover_vectors(config_of(files, KMEANS), tmp_path_factory.mktemp("runs") / "found")


def outcome_of(data: VectorData, *, moved: int) -> Outcome:
    """Return an outcome whose classes are two clouds, and the third one is rejected.

    A person put the last images of the first cloud into the known class 1, and confirmed as many of
    the second cloud; images without a class are among them.
    """
    labels = np.repeat([KNOWN, KNOWN + 1, -1], EACH)
    labels[EACH - moved : EACH] = 1
    ids = data.subsets.unlabeled.ids
    decided = [*ids[EACH - moved : EACH + moved], *ids[-moved:]]
    targets = [[KNOWN], [KNOWN + 1], [-1]]
    return Outcome(targets, ["a", "b"], [], {}, labels, frozenset(decided), labels < 0)


def bits(found: VectorDiscovery) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in state_of(found).items()}


def test_all_images_of_a_class_are_learned(run: RunFolder) -> None:
    data, found = data_of_run(run), opened_discovery(run)
    outcome, known = outcome_of(data, moved=4), data.subsets.known_train
    vectors, labels = data.of(data.subsets.unlabeled), outcome.labels
    assert len(vectors) == EACH * NOVEL
    expected = relabeled(
        found,
        vectors,
        np.where(labels >= KNOWN, labels - KNOWN, -1),
        2,
        (data.of(known), known.labels),
        (vectors[np.flatnonzero(labels == 1)], np.full(4, 1)),
    )
    given = reviewed_discovery(found, data, data.subsets.unlabeled, outcome, KNOWN)
    assert bits(given) == bits(expected)


def test_of_very_many_images_a_sample_and_all_decided_ones_are_learned(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "MOST_ROWS", 20)
    monkeypatch.setattr(sampling, "ROWS_OF_A_CLASS", 1)
    given: list[Any] = []

    def recorded(*args: Any) -> VectorDiscovery:
        given.extend(args)
        return relabeled(*args)

    monkeypatch.setattr(reviewed_vectors, "relabeled", recorded)
    data = data_of_run(run)
    outcome = outcome_of(data, moved=8)
    images = data.subsets.unlabeled
    found = reviewed_discovery(opened_discovery(run), data, images, outcome, KNOWN)
    assert found.gate.sizes == (KNOWN, 2)
    _, vectors, labels, _, known, more_known = given
    # A third of 60 images, and all 8 + 8 images with a class that a person chose.
    assert 20 < len(vectors) <= 20 + 16
    assert len(known[0]) == len(data.fitted_known) == 20
    rows = data.of(images)
    for row in range(EACH - 8, EACH + 8):
        assert (vectors == rows[row]).all(dim=1).any()
    assert len(more_known[0]) == 8
    assert torch.equal(more_known[0], rows[EACH - 8 : EACH])
    places = [int((rows == vector).all(dim=1).nonzero()) for vector in vectors]
    np.testing.assert_array_equal(labels, np.maximum(outcome.labels[places] - KNOWN, -1))


def test_a_review_that_rejects_all_classes_is_refused(run: RunFolder) -> None:
    data = data_of_run(run)
    labels = np.full(EACH * NOVEL, -1)
    outcome = Outcome([[-1]] * NOVEL, [], [], {}, labels, frozenset(), labels < 0)
    with pytest.raises(InputError, match="leaves no image in any discovered class; keep some"):
        reviewed_discovery(opened_discovery(run), data, data.subsets.unlabeled, outcome, KNOWN)
