"""Measures against scikit-learn and hand-computed cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    adjusted_rand_score,
    balanced_accuracy_score,
    normalized_mutual_info_score,
)

from crkd.core.errors import InputError
from crkd.evaluation.scores import class_accuracy, score


@settings(deadline=None)
@given(st.data())
def test_measures_equal_sklearn_on_the_group(data):
    size = data.draw(st.integers(2, 40))
    ids = st.integers(0, 5)
    truth = np.array(data.draw(st.lists(ids, min_size=size, max_size=size)))
    guess = np.array(data.draw(st.lists(ids, min_size=size, max_size=size)))
    classes = sorted(data.draw(st.sets(ids, min_size=1)))
    group = np.isin(truth, classes)
    result = score(guess, truth, classes)
    assert result["num_images"] == group.sum()
    if not group.any():
        assert all(result[name] is None for name in ("acc", "macro_acc", "nmi", "ari"))
        return
    assert result["acc"] == pytest.approx(accuracy_score(truth[group], guess[group]))
    recalls = [np.mean(guess[truth == c] == c) for c in np.unique(truth[group])]
    assert result["macro_acc"] == pytest.approx(np.mean(recalls))
    assert result["nmi"] == pytest.approx(
        normalized_mutual_info_score(truth[group], guess[group]), abs=1e-9
    )
    assert result["ari"] == pytest.approx(adjusted_rand_score(truth[group], guess[group]))


def test_macro_is_the_balanced_accuracy_of_sklearn():
    truth = np.repeat([0, 1, 2], [50, 5, 1])
    guess = np.where(np.arange(56) % 3 == 0, 0, truth)
    result = score(guess, truth, range(3))
    assert result["macro_acc"] == pytest.approx(balanced_accuracy_score(truth, guess))
    assert result["macro_acc"] != pytest.approx(result["acc"])


def test_nmi_and_ari_come_from_the_raw_outputs():
    # Both surplus clusters have no class, yet they separate the images perfectly.
    truth = [0, 0, 1, 1]
    raw, mapped = [7, 7, 8, 8], [-1, -1, -1, -1]
    result = score(mapped, truth, range(2), clusters=raw)
    assert result["acc"] == 0.0
    assert result["nmi"] == pytest.approx(1.0)
    assert result["ari"] == pytest.approx(1.0)


def test_unknown_labels_never_count():
    result = score([0, 1, -1], [0, -1, -1], classes=[-1, 0])
    assert (result["acc"], result["num_images"]) == (1.0, 1)


def test_class_accuracy_is_nan_where_there_is_no_image():
    shares = class_accuracy(np.array([0, 2, 2, 0]), np.array([0, 0, 2, -1]), 4)
    np.testing.assert_array_equal(shares, [0.5, np.nan, 1.0, np.nan])


def test_lengths_must_agree():
    with pytest.raises(InputError, match="2, 3 and 2"):
        score([0, 1], [0, 1, 1], range(2))
