"""Every protocol against the function of its release, on adversarial predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crkd.evaluation.any_method import evaluate_outputs
from crkd.evaluation.hungarian import joint_hungarian, novel_hungarian, separate_hungarian
from crkd.evaluation.protocols import Outcome, fit_cluster_map, task_agnostic, task_aware
from tests.reference import released_protocols as released

EXAMPLES_DRAWN = 40


class Case(NamedTuple):
    """Outputs and labels; -1 is an unknown label."""

    outputs: list[int]
    truth: list[int]
    num_known: int
    num_outputs: int
    num_classes: int

    @property
    def labeled(self) -> tuple[list[int], list[int]]:
        pairs = [pair for pair in zip(self.outputs, self.truth, strict=True) if pair[1] >= 0]
        return [p for p, _ in pairs], [t for _, t in pairs]

    @property
    def sizes(self) -> dict[str, int]:
        novel = self.num_outputs - self.num_known
        return {
            "num_known": self.num_known,
            "num_novel": novel,
            "num_classes": self.num_classes,
        }


@st.composite
def cases(draw: st.DrawFn, largest: int = 3, images: int = 16) -> Case:
    """Few images on few ids, so that most cases have ties and empty clusters."""
    known = draw(st.integers(1, largest))
    classes = known + draw(st.integers(0, largest))
    outputs = known + draw(st.integers(0, largest))
    # Some ids are left out: classes without an image, clusters without one, one class alone.
    label = st.sampled_from(draw(st.lists(st.integers(-1, classes - 1), min_size=1, max_size=6)))
    output = st.sampled_from(draw(st.lists(st.integers(0, outputs - 1), min_size=1, max_size=6)))
    pairs = draw(st.lists(st.tuples(output, label), max_size=images))
    # Imbalance: some pairs are repeated.
    pairs += [pair for pair in pairs[:3] for _ in range(draw(st.integers(0, 9)))]
    return Case([p for p, _ in pairs], [t for _, t in pairs], known, outputs, classes)


EXAMPLES = [
    Case([], [], 1, 1, 1),
    Case([0, 0, 0], [0, 0, 0], 1, 4, 1),
    Case([0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1], 1, 6, 2),
    Case([2, 2, 3, 3], [0, 1, 0, 1], 1, 4, 2),
    Case([0, 0, 1, 1], [1, 2, 1, 2], 1, 2, 3),
    Case([1] * 40 + [0], [0] * 40 + [1], 1, 2, 2),
    Case([0, 1, 1], [-1, -1, -1], 1, 2, 2),
    # A tie that SciPy breaks otherwise on a table that is not square.
    Case([1, 1], [1, 0], 1, 4, 2),
]


def on_all(test):  # type: ignore[no-untyped-def]
    """Run a test on the examples and on drawn cases."""
    for case in EXAMPLES:
        test = example(case)(test)
    return settings(deadline=None, max_examples=EXAMPLES_DRAWN)(given(cases())(test))


def groups(outcome: Outcome) -> tuple[float | None, ...]:
    return tuple(outcome.groups[name]["acc"] for name in ("all", "known", "novel"))


def scored(rule, case: Case) -> tuple[float | None, ...]:  # type: ignore[no-untyped-def]
    outputs, truth = np.array(case.outputs, np.int32), np.array(case.truth, np.int32)
    return groups(rule(outputs, truth, **case.sizes))


def same(found: tuple[float | None, ...], expected: tuple[float | None, ...]) -> bool:
    return all(
        a is b or (a is not None and b is not None and abs(a - b) < 1e-12)
        for a, b in zip(found, expected, strict=True)
    )


@on_all
def test_v2_of_gcd_also_where_matchings_tie(case: Case) -> None:
    expected = released.gcd_v2(*case.labeled, case.num_known)
    assert same(scored(joint_hungarian, case), expected)


@settings(deadline=None, max_examples=EXAMPLES_DRAWN)
@given(cases(largest=2))
def test_v2_is_one_of_the_best_matchings(case: Case) -> None:
    outputs, truth = case.labeled
    best = released.best_matchings(outputs, truth)
    possible = [released.under(m, outputs, truth, case.num_known) for m in best]
    found = scored(joint_hungarian, case)
    assert any(same(found, each) for each in possible)


@on_all
def test_v1_of_gcd(case: Case) -> None:
    expected = released.gcd_v1(*case.labeled, case.num_known)
    assert same(scored(separate_hungarian, case), expected)


@on_all
def test_v3_of_rkd(case: Case) -> None:
    expected = released.rkd_v3(*case.labeled, case.num_known)
    assert same(scored(novel_hungarian, case), expected)


@on_all
def test_v1_of_rkd_is_a_group_of_each_of_three_protocols(case: Case) -> None:
    """all of joint Hungarian, known of task-agnostic, novel of separate Hungarian."""
    outputs, truth = np.array(case.outputs, np.int32), np.array(case.truth, np.int32)
    fixed = task_agnostic(
        outputs, truth, None, num_known=case.num_known, num_classes=case.num_classes
    )
    found = (
        scored(joint_hungarian, case)[0],
        groups(fixed)[1],
        scored(separate_hungarian, case)[2],
    )
    assert same(found, released.rkd_v1(*case.labeled, case.num_known))
    lab, unlab = released.uno_incremental(*case.labeled, case.num_known)
    assert same(found[1:], (lab, unlab))
    assert same((scored(novel_hungarian, case)[1],), (lab,))


@settings(deadline=None, max_examples=EXAMPLES_DRAWN)
@given(cases())
def test_main_result_of_uno_and_rkd(case: Case) -> None:
    outputs, truth = case.labeled
    novel, labels = released.split(outputs, truth, case.num_known, novel=True)
    expected = released.cluster_accuracy(novel, [t - case.num_known for t in labels])
    found = task_aware(
        np.array(case.outputs, np.int32),
        np.array(case.truth, np.int32),
        num_known=case.num_known,
        num_novel=case.num_outputs,
        num_classes=case.num_classes,
    )
    assert same((found.groups["novel"]["acc"],), (expected,))


@settings(deadline=None, max_examples=EXAMPLES_DRAWN)
@given(cases(largest=2), cases(largest=2))
def test_frozen_map_of_class_incd(train: Case, test: Case) -> None:
    sizes = {"num_known": test.num_known, "num_classes": max(test.num_classes, train.num_classes)}
    pairs = [p for p in zip(*train.labeled, strict=True) if p[1] >= test.num_known]
    novel_head, labels = [p for p, _ in pairs], [t for _, t in pairs]
    clusters = max(train.num_outputs, test.num_outputs)
    fitted = fit_cluster_map(
        np.array(novel_head, np.int32), np.array(labels, np.int32), num_novel=clusters, **sizes
    )
    found = groups(
        task_agnostic(
            np.array(test.outputs, np.int32), np.array(test.truth, np.int32), fitted, **sizes
        )
    )
    outputs, truth = test.labeled
    if not pairs:
        assert fitted is None
        assert found[0] is found[2] is None
        return
    frozen = dict(enumerate(fitted.tolist()))
    matched = [label for label in frozen.values() if label >= 0]
    assert len(set(matched)) == len(matched), "no class has two clusters"
    joint = [cluster + test.num_known for cluster in novel_head]
    right = released.frozen(frozen, joint, labels, test.num_known)[2]
    best = released.cluster_accuracy(novel_head, [t - test.num_known for t in labels])
    assert same((right,), (best,)), "no map is better on the training images"
    assert same(found, released.frozen(frozen, outputs, truth, test.num_known))


@pytest.mark.parametrize("seed", range(4))
def test_many_classes_and_more_clusters(seed: int) -> None:
    draw = np.random.default_rng(seed)
    known, classes, outputs = 30, 50, (50, 120, 40, 33)[seed]
    share = draw.dirichlet(np.full(classes, 0.4))
    truth = draw.choice(classes, 3000, p=share)
    noisy = np.where(draw.random(3000) < 0.5, draw.integers(0, outputs, 3000), truth % outputs)
    truth[draw.random(3000) < 0.1] = -1
    case = Case(noisy.tolist(), truth.tolist(), known, outputs, classes)
    for rule, reference in (
        (joint_hungarian, released.gcd_v2),
        (separate_hungarian, released.gcd_v1),
        (novel_hungarian, released.rkd_v3),
    ):
        assert same(scored(rule, case), reference(*case.labeled, known))


@on_all
def test_a_file_of_outputs_has_the_released_values(case: Case) -> None:
    outputs, truth = case.labeled
    if not truth:
        return
    tree = evaluate_outputs(case.outputs, case.truth, num_known=case.num_known, part="test")
    for protocol, reference in (
        ("joint_hungarian", released.gcd_v2),
        ("separate_hungarian", released.gcd_v1),
        ("novel_hungarian", released.rkd_v3),
    ):
        found = tree.get(protocol, {}).get("test", {})
        values = tuple(found.get(name, {"acc": None})["acc"] for name in ("all", "known", "novel"))
        assert same(values, reference(outputs, truth, case.num_known))


def test_both_versions_of_gcd_differ() -> None:
    """An output that is right for a known class under v1 is also right for a novel one."""
    outputs, truth = [0, 0, 0, 0, 1], [0, 0, 1, 1, 1]
    case = Case(outputs, truth, 1, 2, 2)
    assert scored(separate_hungarian, case) == (pytest.approx(0.8), 1.0, pytest.approx(2 / 3))
    assert scored(joint_hungarian, case) == (pytest.approx(0.6), 1.0, pytest.approx(1 / 3))
