"""Each protocol on a hand-made case where all of them differ; invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.evaluation.hungarian import joint_hungarian
from crkd.evaluation.protocols import (
    apply_cluster_map,
    fit_cluster_map,
    supervised,
    task_agnostic,
    task_aware,
)

# The example of docs/evaluation.md: cat, dog known; fox, owl novel; every value computed by hand.
SIZES = {"num_known": 2, "num_classes": 4}
TRAIN_LABEL = np.array([2, 2, 2, 3, 3])
TRAIN_NOVEL = np.array([1, 1, 1, 0, 1])
TEST_LABEL = np.array([0, 0, 1, 1, 2, 2, 2, 3, 3, 3])
TEST_NOVEL = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 0])
TEST_JOINT = np.array([0, 0, 2, 0, 3, 1, 3, 0, 0, 1])


def accuracies(outcome):
    return {group: score["acc"] for group, score in outcome.groups.items()}


def test_task_aware_by_hand():
    train = task_aware(TRAIN_NOVEL, TRAIN_LABEL, num_novel=2, **SIZES)
    test = task_aware(TEST_NOVEL, TEST_LABEL, num_novel=2, **SIZES)
    assert accuracies(train) == {"novel": pytest.approx(4 / 5)}
    assert accuracies(test) == {"novel": pytest.approx(5 / 6)}
    assert test.groups["novel"]["num_images"] == 6
    np.testing.assert_allclose(test.class_accuracy, [np.nan, np.nan, 1.0, 2 / 3])


def test_task_agnostic_by_hand():
    frozen = fit_cluster_map(TRAIN_NOVEL, TRAIN_LABEL, num_novel=2, **SIZES)
    assert frozen.tolist() == [3, 2]
    outcome = task_agnostic(TEST_JOINT, TEST_LABEL, frozen, **SIZES)
    assert accuracies(outcome) == {
        "all": pytest.approx(4 / 10),
        "known": pytest.approx(2 / 4),
        "novel": pytest.approx(2 / 6),
    }
    np.testing.assert_allclose(outcome.class_accuracy, [1.0, 0.0, 2 / 3, 0.0])


def test_joint_hungarian_by_hand():
    outcome = joint_hungarian(TEST_JOINT, TEST_LABEL, num_novel=2, **SIZES)
    assert accuracies(outcome) == {
        "all": pytest.approx(6 / 10),
        "known": pytest.approx(3 / 4),
        "novel": pytest.approx(3 / 6),
    }
    np.testing.assert_allclose(outcome.class_accuracy, [1.0, 0.5, 2 / 3, 1 / 3])


def test_supervised_by_hand():
    known_head = np.array([0, 1, 1, 1, 0, 0, 0, 1, 1, 1])
    outcome = supervised(known_head, TEST_LABEL, **SIZES)
    assert accuracies(outcome) == {"known": pytest.approx(3 / 4)}
    np.testing.assert_allclose(outcome.class_accuracy, [0.5, 1.0, np.nan, np.nan])


def test_frozen_map_ignores_the_test_labels():
    # Clusters that changed places between training and test images: the matching on the test
    # images forgives it, the frozen map must not.
    frozen = fit_cluster_map(np.array([0, 1]), np.array([2, 3]), num_novel=2, **SIZES)
    joint, truth = np.array([0, 1, 3, 2]), np.array([0, 1, 2, 3])
    assert accuracies(task_agnostic(joint, truth, frozen, **SIZES))["novel"] == 0.0
    assert accuracies(joint_hungarian(joint, truth, num_novel=2, **SIZES))["novel"] == 1.0


def test_more_clusters_than_classes():
    clusters, truth = np.array([0, 0, 1, 2, 2]), np.array([2, 2, 2, 3, 3])
    frozen = fit_cluster_map(clusters, truth, num_novel=3, **SIZES)
    assert frozen.tolist() == [2, -1, 3]
    joint = np.array([2, 3, 4])
    assert apply_cluster_map(joint, frozen, num_known=2).tolist() == [2, -1, 3]
    outcome = task_agnostic(joint, np.array([2, 2, 3]), frozen, **SIZES)
    assert accuracies(outcome)["novel"] == pytest.approx(2 / 3)


def test_fewer_clusters_than_classes():
    sizes = {"num_known": 1, "num_classes": 4}
    clusters, truth = np.array([0, 0, 0, 1, 1, 1]), np.array([1, 1, 2, 3, 3, 3])
    outcome = task_aware(clusters, truth, num_novel=2, **sizes)
    assert accuracies(outcome)["novel"] == pytest.approx(5 / 6)
    np.testing.assert_allclose(outcome.class_accuracy, [np.nan, 1.0, 0.0, 1.0])


def test_without_novel_training_labels_only_known_is_scored():
    assert fit_cluster_map(np.array([0, 1]), np.array([-1, -1]), num_novel=2, **SIZES) is None
    outcome = task_agnostic(TEST_JOINT, TEST_LABEL, None, **SIZES)
    assert accuracies(outcome) == {"all": None, "known": pytest.approx(2 / 4), "novel": None}


def test_all_needs_both_groups():
    known_only = np.where(TEST_LABEL < 2, TEST_LABEL, -1)
    outcome = joint_hungarian(TEST_JOINT, known_only, num_novel=2, **SIZES)
    assert accuracies(outcome)["all"] is None
    assert accuracies(outcome)["novel"] is None
    assert accuracies(outcome)["known"] == pytest.approx(3 / 4)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_renumbering_the_clusters_changes_no_protocol(seed):
    draw = np.random.default_rng(seed)
    known, novel = int(draw.integers(1, 4)), int(draw.integers(1, 5))
    total = known + int(draw.integers(1, 5))
    truth = draw.integers(known, total, 40)
    clusters = draw.integers(0, novel, 40)
    order = draw.permutation(novel)
    sizes = {"num_known": known, "num_classes": total}
    plain = task_aware(clusters, truth, num_novel=novel, **sizes)
    mixed = task_aware(order[clusters], truth, num_novel=novel, **sizes)
    for measure in ("acc", "nmi", "ari"):
        assert mixed.groups["novel"][measure] == pytest.approx(plain.groups["novel"][measure])

    joint, test_truth = draw.integers(0, known + novel, 40), draw.integers(0, total, 40)
    renamed = joint.copy()
    renamed[joint >= known] = known + order[joint[joint >= known] - known]
    frozen = fit_cluster_map(clusters, truth, num_novel=novel, **sizes)
    moved = np.empty_like(frozen)
    moved[order] = frozen
    plain = task_agnostic(joint, test_truth, frozen, **sizes)
    mixed = task_agnostic(renamed, test_truth, moved, **sizes)
    for group, score in plain.groups.items():
        assert mixed.groups[group] == pytest.approx(score)
    plain = joint_hungarian(joint, test_truth, num_novel=novel, **sizes).groups["all"]
    mixed = joint_hungarian(renamed, test_truth, num_novel=novel, **sizes).groups["all"]
    assert (plain["acc"] is None) == (mixed["acc"] is None)
    if plain["acc"] is not None:
        assert mixed["acc"] == pytest.approx(plain["acc"])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_joint_hungarian_is_never_below_task_agnostic(seed):
    draw = np.random.default_rng(seed)
    joint, truth = draw.integers(0, 5, 30), np.r_[0, 4, draw.integers(0, 5, 28)]
    frozen = 2 + draw.permutation(3)
    sizes = {"num_known": 2, "num_classes": 5}
    strict = task_agnostic(joint, truth, frozen, **sizes).groups["all"]["acc"]
    free = joint_hungarian(joint, truth, num_novel=3, **sizes).groups["all"]["acc"]
    assert free >= strict - 1e-12
