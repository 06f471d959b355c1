"""An estimator on more vectors than a discovery learns from, and in more than one batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crkd import NovelClassDiscovery
from crkd.estimator import vector_model
from crkd.estimator.vector_model import VectorModel
from crkd.stages.forward import Outputs
from crkd.stages.vectors import sampling
from crkd.stages.vectors.data import VectorData, vector_data
from crkd.stages.vectors.discovery import (
    VectorDiscovery,
    fit_discovery,
    fit_known,
    further_discovery,
)
from crkd.stages.vectors.state import state_of
from tests.estimator.conftest import Clouds
from tests.support.vector_clouds import NOVEL, cloud_files, config_of

METHOD = "whitened_kmeans"


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let discoveries learn from 40 labeled and 40 unlabeled vectors."""
    monkeypatch.setattr(sampling, "MOST_ROWS", 40)
    monkeypatch.setattr(sampling, "ROWS_OF_A_CLASS", 1)


def data_of_a_run(folder: Path) -> VectorData:
    """Return 120 labeled and 90 unlabeled vectors as a run has them."""
    return vector_data(config_of(cloud_files(folder), "data.validation_fraction=0", seed=3))


def labels_of(data: VectorData) -> np.ndarray:
    labels = np.full(len(data.vectors), -1, np.int64)
    labels[data.subsets.known_train.indices] = data.subsets.known_train.labels
    return labels


def bits(found: VectorDiscovery) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in state_of(found).items()}


def check_rows_of_a_run(data: VectorData) -> None:
    """Check that an estimator learns what a run with the same vectors and seed learns."""
    vectors, labels = np.asarray(data.vectors), labels_of(data)
    known = data.of(data.fitted_known), torch.from_numpy(data.fitted_known.labels.copy())
    expected = fit_discovery(*known, data.of(data.fitted_novel), NOVEL, method=METHOD, seed=3)
    found = VectorModel.fit(vectors, labels, NOVEL, method=METHOD, seed=3)
    assert bits(found.discovery) == bits(expected)
    alone = VectorModel.fit(vectors[labels >= 0], labels[labels >= 0], 0, method=METHOD, seed=3)
    assert bits(alone.discovery) == bits(fit_known(*known, known[0][:0]))


@pytest.mark.usefixtures("sampled")
def test_very_many_vectors_are_learned_from_the_sample_of_a_run(tmp_path: Path) -> None:
    data = data_of_a_run(tmp_path)
    assert len(data.fitted_known) == len(data.fitted_novel) == 40
    check_rows_of_a_run(data)


def test_of_fewer_vectors_all_are_learned(tmp_path: Path) -> None:
    data = data_of_a_run(tmp_path)
    assert len(data.fitted_known) + len(data.fitted_novel) == len(data.vectors)
    check_rows_of_a_run(data)


def test_an_update_learns_from_a_sample_too(
    clouds: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, later = clouds.X[clouds.first], clouds.X[~clouds.first].astype(np.float32)
    model = VectorModel.fit(first.astype(np.float32), clouds.labels(), 2, method=METHOD, seed=0)
    monkeypatch.setattr(sampling, "MOST_ROWS", 40)
    monkeypatch.setattr(sampling, "ROWS_OF_A_CLASS", 1)
    some = torch.from_numpy(later[sampling.unlabeled_sample(len(later), 2, seed=5)])
    assert len(some) == 40
    expected = further_discovery(model.discovery, some, 2, seed=5)
    found = model.extended(later, 2, method="auto", seed=5)
    assert bits(found.discovery) == bits(expected)


@pytest.mark.usefixtures("sampled")
def test_samples_that_were_not_drawn_have_a_label_too(clouds: Clouds) -> None:
    model = NovelClassDiscovery(2, method=METHOD, random_state=0)
    model.fit(clouds.X[clouds.first], clouds.labels()).update(clouds.X[~clouds.first], 2)
    assert len(model.labels_) == len(model.embedding_) == 420
    truth = np.concatenate([clouds.truth[clouds.first], clouds.truth[~clouds.first]])
    for cloud in range(7):
        assert len(set(model.labels_[truth == cloud])) == 1


def few_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pass 50 vectors at once; the list gets the number of earlier batches with kept features."""
    kept: list[int] = []
    features: list[weakref.ref[Any]] = []
    forward: Callable[..., Outputs] = vector_model.forward_batch

    def watched(*args: Any) -> Outputs:
        kept.append(sum(one() is not None for one in features))
        outputs = forward(*args)
        features.append(weakref.ref(outputs.features))
        return outputs

    monkeypatch.setattr(vector_model, "forward_batch", watched)
    monkeypatch.setattr(vector_model, "BATCH_ROWS", 50)
    return kept


@pytest.mark.parametrize("name", ["predict", "predict_proba", "transform"])
def test_batch_by_batch_nothing_is_kept_but_what_is_returned(
    fitted: NovelClassDiscovery, clouds: Clouds, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = getattr(fitted, name)(clouds.X)
    kept = few_at_once(monkeypatch)
    found = getattr(fitted, name)(clouds.X)
    assert len(kept) == 9
    assert max(kept) <= 1
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_a_fit_keeps_no_features_of_its_samples(
    fitted: NovelClassDiscovery, clouds: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = few_at_once(monkeypatch)
    model = NovelClassDiscovery(2, method=METHOD, random_state=0)
    model.fit(clouds.X[clouds.first], clouds.labels())
    assert max(kept) <= 1
    np.testing.assert_array_equal(model.labels_, fitted.labels_)
    np.testing.assert_allclose(model.embedding_, fitted.embedding_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(model.confidence_, fitted.confidence_, rtol=1e-6)
