"""Hungarian accuracy against brute force, rectangular cases, invariance."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.core.errors import InputError
from crkd.evaluation.matching import clustering_accuracy, contingency, match


def best_by_permutations(predicted, truth, num_clusters, num_classes):
    """Try every assignment of clusters to distinct classes; surplus clusters get none."""
    slots = max(num_clusters, num_classes)
    best = 0
    for order in permutations(range(slots), num_clusters):
        best = max(best, sum(order[p] == t for p, t in zip(predicted, truth, strict=True)))
    return best / len(truth)


@st.composite
def labeled_clusters(draw):
    num_clusters = draw(st.integers(1, 6))
    num_classes = draw(st.integers(1, 6))
    size = draw(st.integers(1, 30))
    predicted = draw(st.lists(st.integers(0, num_clusters - 1), min_size=size, max_size=size))
    truth = draw(st.lists(st.integers(0, num_classes - 1), min_size=size, max_size=size))
    return np.array(predicted), np.array(truth), num_clusters, num_classes


@settings(deadline=None)
@given(labeled_clusters())
def test_accuracy_equals_the_best_of_all_permutations(case):
    predicted, truth, num_clusters, num_classes = case
    expected = best_by_permutations(predicted, truth, num_clusters, num_classes)
    assert clustering_accuracy(predicted, truth) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(labeled_clusters())
def test_match_uses_no_class_twice_and_as_many_as_it_can(case):
    classes = match(contingency(*case))
    given_ones = classes[classes >= 0]
    assert len(np.unique(given_ones)) == len(given_ones) == min(case[2], case[3])
    assert classes.shape == (case[2],)
    assert classes.max() < case[3]


@settings(deadline=None)
@given(labeled_clusters(), st.randoms(use_true_random=False))
def test_renumbering_changes_nothing(case, random):
    predicted, truth, num_clusters, num_classes = case
    clusters, classes = list(range(num_clusters)), list(range(num_classes))
    random.shuffle(clusters)
    random.shuffle(classes)
    renumbered = clustering_accuracy(np.array(clusters)[predicted], np.array(classes)[truth])
    assert renumbered == clustering_accuracy(predicted, truth)


def test_ids_may_have_gaps_of_any_size():
    predicted, truth = np.array([3, 3, 2**62, 2**62]), np.array([7, 7, 10**12, 7])
    assert clustering_accuracy(predicted, truth) == 0.75


def test_rectangular_both_ways():
    more_clusters = contingency([0, 0, 0, 1, 2, 2], [0, 0, 0, 0, 1, 1], 3, 2)
    assert match(more_clusters).tolist() == [0, -1, 1]
    more_classes = contingency([0, 0, 0, 1, 1], [2, 2, 0, 0, 1], 2, 3)
    assert match(more_classes).tolist() == [2, 0] or match(more_classes).tolist() == [2, 1]
    assert clustering_accuracy([0, 0, 0, 1, 1], [2, 2, 0, 0, 1]) == pytest.approx(3 / 5)


def test_greedy_would_be_worse():
    # The largest cell (cluster 0, class 0: 3) has to be given up: 2 + 3 > 3 + 0.
    predicted = [0] * 5 + [1] * 3
    truth = [0, 0, 0, 1, 1, 0, 0, 0]
    assert clustering_accuracy(predicted, truth) == pytest.approx(5 / 8)


def test_contingency_counts():
    counts = contingency([0, 1, 1, 1], [2, 0, 0, 2], num_clusters=3, num_classes=3)
    assert counts.tolist() == [[0, 0, 1], [2, 0, 1], [0, 0, 0]]
    assert counts.dtype == np.int64


@pytest.mark.parametrize(
    ("predicted", "truth", "word"),
    [
        ([0, 1], [0], "entries"),
        ([0, 2], [0, 0], "[0, 2)"),
        ([0, -1], [0, 0], "-1"),
        ([0, 1], [0, 5], "truth"),
        ([0.0, 1.0], [0, 1], "float64"),
        ([[0, 1]], [0, 1], "one-dimensional array of ids (the argmax of logits)"),
    ],
)
def test_bad_input_is_named(predicted, truth, word):
    with pytest.raises(InputError, match=r"^(predicted|truth)") as caught:
        contingency(predicted, truth, 2, 2)
    assert word in str(caught.value)


def test_no_image_is_an_error():
    with pytest.raises(InputError, match="no image"):
        clustering_accuracy(np.zeros(0, int), np.zeros(0, int))
