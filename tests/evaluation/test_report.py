"""The whole tree of metrics: means, chosen head, baselines, nulls, JSON."""

import json
import subprocess
import sys

import numpy as np
import pytest

from crkd.evaluation.matching import clustering_accuracy
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.protocol_list import PROTOCOLS
from crkd.evaluation.report import cluster_map, evaluate

IMAGES, KNOWN, NOVEL, HEADS = 400, 3, 4, 3


def predictions(**changes):
    """The same images at every call; a changed label changes nothing that was predicted."""
    draw = np.random.default_rng(0)

    def noisy(ids, limit, share=0.3):
        return np.where(draw.random(len(ids)) < share, draw.integers(0, limit, len(ids)), ids)

    part = np.where(np.arange(IMAGES) < 200, "train", "test")
    label = np.where(part == "train", draw.integers(3, 7, IMAGES), draw.integers(0, 7, IMAGES))
    novel = np.clip(label - KNOWN, 0, None)
    fields = {
        "id": [str(number) for number in range(IMAGES)],
        "part": part,
        "label": label,
        "known_head": noisy(np.clip(label, 0, KNOWN - 1), KNOWN),
        "novel_heads": np.stack([noisy(novel, NOVEL, 0.1 * h) for h in range(HEADS)]),
        "joint_heads": np.stack([noisy(label, 7, 0.1 * h + 0.1) for h in range(HEADS)]),
        "confidence": draw.random(IMAGES),
        "class_names": list("abcdefg"),
        "num_known": KNOWN,
        "num_novel": NOVEL,
        "chosen_head": 2,
        "baselines": {"kmeans_pixels": noisy(novel, NOVEL, 0.6)},
    }
    return Predictions(**{**fields, **changes})


def leaves(tree, path=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def test_mean_spread_and_chosen_head_agree_with_one_head_tables():
    table = predictions()
    metrics = evaluate(table)
    single = [
        evaluate(
            Predictions(
                **{
                    **vars(table),
                    "novel_heads": table.novel_heads[h : h + 1],
                    "joint_heads": table.joint_heads[h : h + 1],
                    "chosen_head": 0,
                }
            )
        )
        for h in range(HEADS)
    ]
    for protocol, part, group in [
        ("task_aware", "train", "novel"),
        ("task_aware", "test", "novel"),
        ("task_agnostic", "test", "all"),
        ("joint_hungarian", "test", "known"),
        ("supervised", "test", "known"),
    ]:
        for measure in ("acc", "macro_acc", "nmi", "ari"):
            values = [tree[protocol][part][group][measure] for tree in single]
            assert metrics[protocol][part][group][measure] == pytest.approx(np.mean(values))
            spread = metrics["spread_over_heads"][protocol][part][group][measure]
            assert spread == pytest.approx(np.std(values))
            chosen = metrics["chosen_head"][protocol][part][group][measure]
            assert chosen == pytest.approx(values[2])
    assert metrics["per_class"] == single[2]["per_class"]


def test_task_aware_is_the_hungarian_accuracy_of_the_novel_images():
    table = predictions()
    rows = (table.part == "train") & (table.label >= KNOWN)
    expected = np.mean(
        [clustering_accuracy(head[rows], table.label[rows]) for head in table.novel_heads]
    )
    metrics = evaluate(table)
    assert metrics["task_aware"]["train"]["novel"]["acc"] == pytest.approx(expected)
    baseline = metrics["baselines"]["kmeans_pixels"]["task_aware"]["train"]["novel"]
    assert baseline["acc"] == pytest.approx(
        clustering_accuracy(table.baselines["kmeans_pixels"][rows], table.label[rows])
    )


def test_map_is_fitted_on_the_training_part_alone():
    table = predictions()
    scrambled = table.label.copy()
    test = table.part == "test"
    scrambled[test] = np.random.default_rng(1).permutation(scrambled[test])
    other = Predictions(**{**vars(table), "label": scrambled})
    np.testing.assert_array_equal(cluster_map(table, 0), cluster_map(other, 0))


def test_per_class_by_hand():
    table = predictions()
    metrics = evaluate(table)
    rows = (table.part == "test") & (table.label == 0)
    expected = np.mean(table.joint_heads[2][rows] == 0)
    assert metrics["per_class"]["task_agnostic"]["test"]["a"] == pytest.approx(expected)
    assert list(metrics["per_class"]["task_aware"]["train"]) == list("defg")
    assert list(metrics["per_class"]["supervised"]["test"]) == list("abc")


def test_group_means_add_up():
    groups = evaluate(predictions())["task_agnostic"]["test"]
    total = sum(groups[name]["acc"] * groups[name]["num_images"] for name in ("known", "novel"))
    assert groups["all"]["acc"] * groups["all"]["num_images"] == pytest.approx(total)


def test_counts():
    table = predictions(label=np.where(np.arange(IMAGES) < 50, -1, predictions().label))
    counts = evaluate(table)["counts"]
    assert counts["train"]["images"] == 200
    assert counts["train"]["unlabeled"] == 50
    assert counts["train"]["novel"] + counts["train"]["known"] == 150
    assert counts["train"]["clusters_used"] == NOVEL
    assert (counts["known_classes"], counts["novel_clusters"]) == (KNOWN, NOVEL)
    assert (counts["heads"], counts["chosen_head"], counts["true_novel_classes"]) == (3, 2, 4)


def test_unused_clusters_are_counted():
    table = predictions(num_novel=NOVEL + 5)
    assert evaluate(table)["counts"]["train"]["clusters_used"] == NOVEL


def test_training_images_of_known_classes_give_the_scores_of_gcd():
    table = predictions()
    plain = evaluate(table)
    for protocol in ("joint_hungarian", "novel_hungarian"):
        groups = plain[protocol]["train"].values()
        assert {score["num_images"] for score in groups} == {0}, "no known image is among them"
    mixed = evaluate(predictions(label=np.where(np.arange(IMAGES) < 60, 1, table.label)))
    expected = np.mean([clustering_accuracy(h[:200], mixed_label()) for h in table.joint_heads])
    train = mixed["joint_hungarian"]["train"]
    assert train["all"]["acc"] == pytest.approx(expected)
    assert [train[group]["num_images"] for group in ("all", "known", "novel")] == [200, 60, 140]
    assert mixed["separate_hungarian"]["train"]["all"]["acc"] >= expected
    for protocol in PROTOCOLS:
        assert mixed[protocol].keys() == plain[protocol].keys() == set(PROTOCOLS[protocol].parts)
        for groups in mixed[protocol].values():
            assert tuple(groups) == PROTOCOLS[protocol].groups
        assert mixed[protocol].get("test") == plain[protocol].get("test") or protocol == (
            "task_agnostic"
        ), "test scores of the other protocols need no training label"
    assert mixed["per_class"]["joint_hungarian"]["train"]["b"] is not None
    assert plain["per_class"]["joint_hungarian"]["train"]["b"] is None


def mixed_label():
    return np.where(np.arange(200) < 60, 1, predictions().label[:200])


def test_without_labels_everything_is_none():
    metrics = evaluate(predictions(label=np.full(IMAGES, -1)))
    for name in PROTOCOLS:
        for path, value in leaves(metrics[name]):
            assert value == 0 if path[-1] == "num_images" else value is None
    assert metrics["baselines"]["kmeans_pixels"]["task_aware"]["test"]["novel"]["acc"] is None
    assert all(value is None for _, value in leaves(metrics["per_class"]))
    json.dumps(metrics, allow_nan=False)


def test_known_test_labels_alone_give_the_known_groups():
    label = predictions().label
    known_only = np.where((np.arange(IMAGES) >= 200) & (label < KNOWN), label, -1)
    metrics = evaluate(predictions(label=known_only))
    assert metrics["supervised"]["test"]["known"]["acc"] > 0.3
    assert metrics["task_agnostic"]["test"]["known"]["acc"] > 0.3
    assert metrics["task_agnostic"]["test"]["all"]["acc"] is None
    assert metrics["task_aware"]["train"]["novel"]["acc"] is None


def test_supervised_run_has_the_same_tree():
    empty = np.zeros((0, IMAGES), np.int32)
    metrics = evaluate(
        predictions(
            novel_heads=empty, joint_heads=empty, num_novel=0, chosen_head=None, baselines={}
        )
    )
    full = evaluate(predictions(baselines={}))
    assert [path for path, _ in leaves(metrics)] == [path for path, _ in leaves(full)]
    assert metrics["supervised"]["test"]["known"]["acc"] > 0.3
    assert metrics["chosen_head"]["supervised"] == metrics["supervised"]
    assert metrics["task_agnostic"]["test"]["known"]["acc"] is None
    json.dumps(metrics, allow_nan=False)


def test_baselines_need_no_heads():
    empty = np.zeros((0, IMAGES), np.int32)
    metrics = evaluate(predictions(novel_heads=empty, joint_heads=empty, chosen_head=None))
    assert metrics["baselines"]["kmeans_pixels"]["task_aware"]["train"]["novel"]["acc"] > 0.3


def test_one_part_may_be_missing():
    table = predictions(part=["test"] * IMAGES)
    metrics = evaluate(table)
    assert metrics["task_aware"]["train"]["novel"]["num_images"] == 0
    assert metrics["joint_hungarian"]["test"]["all"]["acc"] > 0.3
    assert metrics["task_agnostic"]["test"]["novel"]["acc"] is None


def test_metrics_survive_json():
    metrics = evaluate(predictions())
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_evaluation_needs_no_torch():
    code = (
        "import sys; import crkd.evaluation.report, crkd.evaluation.tables, crkd.clustering.kmeans;"
        "sys.exit('torch' in sys.modules or 'faiss' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_oracle_is_the_best_head_by_labels_and_bears_its_name():
    table = predictions()
    metrics = evaluate(table)
    rows = (table.part == "train") & (table.label >= KNOWN)
    scores = [clustering_accuracy(head[rows], table.label[rows]) for head in table.novel_heads]
    assert metrics["oracle"]["head"] == int(np.argmax(scores))
    assert "hidden labels" in metrics["oracle"]["picked_by"]
    assert metrics["oracle"]["task_aware"]["train"]["novel"]["acc"] == pytest.approx(max(scores))
    # The head that predicts was chosen before, and no label moves it.
    for chosen in range(table.num_heads):
        other = evaluate(Predictions(**{**vars(table), "chosen_head": chosen}))
        assert other["oracle"] == metrics["oracle"]
        assert other["counts"]["chosen_head"] == chosen


def test_without_a_label_there_is_no_oracle():
    unlabeled = np.where(predictions().part == "train", -1, predictions().label)
    oracle = evaluate(predictions(label=unlabeled))["oracle"]
    assert oracle["head"] is None
    assert oracle["task_aware"]["test"]["novel"]["acc"] is None
    assert oracle["joint_hungarian"]["test"]["all"]["acc"] is None
