from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from crkd import NovelClassDiscovery
from crkd.core.errors import InputError
from crkd.stages.vectors import discovery
from crkd.stages.vectors.gate import Gate, fit_gate
from tests.estimator.conftest import Clouds


def test_an_update_keeps_old_labels_and_finds_the_new_clouds(
    fitted: NovelClassDiscovery, clouds: Clouds
) -> None:
    labels, confidence = fitted.labels_, fitted.confidence_
    embedding, names = fitted.embedding_, fitted.set_class_names({3: "crane"}).class_names_
    assert fitted.update(clouds.X[~clouds.first], 2) is fitted
    np.testing.assert_array_equal(fitted.classes_, np.arange(7))
    assert fitted.class_names_ == [*names, "5", "6"]
    assert fitted.labels_[:300].tobytes() == labels.tobytes()
    assert fitted.confidence_[:300].tobytes() == confidence.tobytes()
    assert fitted.embedding_[:300].tobytes() == embedding.tobytes()

    truth, later = clouds.truth[~clouds.first], fitted.labels_[300:]
    found = [np.unique(later[truth == cloud]).tolist() for cloud in (5, 6)]
    assert sorted(found) == [[5], [6]]
    assert not (later == -1).any()
    assert fitted.num_known_ == 3
    assert [row.kind for row in fitted.get_class_info()[:7]] == ["known"] * 3 + ["novel"] * 4


def test_old_and_new_clouds_are_predicted_after_an_update(
    fitted: NovelClassDiscovery, updated: NovelClassDiscovery, clouds: Clouds
) -> None:
    before, after = fitted.predict(clouds.X), updated.predict(clouds.X)
    np.testing.assert_array_equal(after[clouds.first], before[clouds.first])
    pairs = {(c, a) for c, a in zip(clouds.truth, after, strict=True) if c >= 5}
    assert len(pairs) == 2
    assert {a for _, a in pairs} == {5, 6}
    shares = updated.predict_proba(clouds.X)
    assert shares.shape == (420, 7)
    np.testing.assert_array_equal(
        updated.transform(clouds.X[:5]).shape, fitted.transform(clouds.X[:5]).shape
    )


def test_representative_samples_count_on_after_those_of_the_fit(
    updated: NovelClassDiscovery, clouds: Clouds
) -> None:
    rows = np.concatenate([clouds.X[clouds.first], clouds.X[~clouds.first]])
    truth = np.concatenate([clouds.truth[clouds.first], clouds.truth[~clouds.first]])
    for label in (5, 6):
        picked = updated.get_representative_samples(label, 5)
        assert (picked >= 300).all()
        assert len(set(truth[picked])) == 1
        np.testing.assert_array_equal(updated.predict(rows[picked]), label)


def test_merged_classes_stay_merged_in_an_update(
    fitted: NovelClassDiscovery, clouds: Clouds
) -> None:
    fitted.merge_classes([[3, 4]]).update(clouds.X[~clouds.first], 2)
    np.testing.assert_array_equal(fitted.classes_, [0, 1, 2, 3, 5, 6])
    found = fitted.predict(clouds.X)
    assert set(found[(clouds.truth == 3) | (clouds.truth == 4)]) == {3}
    fitted.merge_classes([[3, 6]])
    assert set(fitted.predict(clouds.X)) == {0, 1, 2, 3, 5}


def test_classes_are_found_after_a_fit_of_known_classes_alone(clouds: Clouds) -> None:
    known = clouds.truth < 3
    model = NovelClassDiscovery(random_state=0).fit(clouds.X[known], clouds.truth[known])
    model.update(clouds.X[clouds.truth == 3], 1).update(clouds.X[clouds.truth == 4], 1)
    np.testing.assert_array_equal(model.classes_, np.arange(5))
    found = model.predict(clouds.X[clouds.first])
    assert (found == clouds.truth[clouds.first]).mean() > 0.97


def test_samples_of_earlier_classes_are_outliers_of_an_update(
    fitted: NovelClassDiscovery, clouds: Clouds
) -> None:
    old = np.concatenate([np.flatnonzero(clouds.truth == cloud)[:8] for cloud in (1, 3)])
    new = np.flatnonzero(clouds.truth == 5)
    fitted.update(clouds.X[np.concatenate([old, new])], 1)
    np.testing.assert_array_equal(fitted.labels_[300:], [-1] * 16 + [5] * 60)
    fitted.reduce_outliers()
    np.testing.assert_array_equal(fitted.labels_[300:], 5)


def test_with_samples_of_earlier_classes_the_gate_is_not_balanced(
    fitted: NovelClassDiscovery, clouds: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, bool]] = []

    def recorded(*args: Any, balanced: bool) -> Gate:
        given.append((int((args[2] >= 5).sum()), balanced))
        return fit_gate(*args, balanced=balanced)

    monkeypatch.setattr(discovery, "fit_gate", recorded)
    new, old = np.flatnonzero(clouds.truth == 5), np.flatnonzero(clouds.truth == 3)[:20]
    copy.deepcopy(fitted).update(clouds.X[new], 1)
    copy.deepcopy(fitted).update(clouds.X[np.concatenate([old, new])], 1)
    # Samples that look like an earlier class are no samples of the new one.
    assert given == [(60, True), (60, False)]


def test_the_same_seed_gives_the_same_update(fitted: NovelClassDiscovery, clouds: Clouds) -> None:
    other = copy.deepcopy(fitted)
    np.random.seed(7)  # noqa: NPY002
    for model in (fitted, other):
        model.update(clouds.X[~clouds.first], 2)
    np.testing.assert_array_equal(fitted.predict_proba(clouds.X), other.predict_proba(clouds.X))


def test_a_wrong_update_changes_nothing(fitted: NovelClassDiscovery, clouds: Clouds) -> None:
    before = fitted.predict_proba(clouds.X)
    later = clouds.X[~clouds.first]
    for count in (0, 121, None, 2.5):
        message = f"num_novel is {count} and 120 samples are unlabeled; give a number"
        with pytest.raises(InputError, match=message):
            fitted.update(later, count)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="11 features, but NovelClassDiscovery is expecting 12"):
        fitted.update(later[:, :11], 2)
    with pytest.raises(InputError, match="method is 'magic'"):
        fitted.set_params(method="magic").update(later, 2)
    np.testing.assert_array_equal(fitted.predict_proba(clouds.X), before)
    assert len(fitted.labels_) == 300


def test_images_cannot_be_updated() -> None:
    X = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    model = NovelClassDiscovery(1, epochs=1, num_heads=1, hidden=8, random_state=0)
    model.fit(X, np.where(np.arange(24) < 16, np.arange(24) % 2, -1))
    with pytest.raises(InputError, match="update takes feature vectors, and this estimator was"):
        model.update(X, 1)
