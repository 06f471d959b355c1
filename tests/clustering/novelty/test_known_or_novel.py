"""Known or novel, on Gaussian classes with known results."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from crkd.clustering.novelty import known_or_novel
from crkd.clustering.novelty.known_or_novel import known_check, mostly_known
from crkd.clustering.novelty.mixture_share import known_share
from crkd.clustering.novelty.separation import measure_separation
from crkd.core.errors import InputError
from tests.support.gaussian_classes import gaussians, means

KNOWN, NOVEL = means(6, 0, scale=1.2), means(4, 9, scale=1.2)


def mixture(share: float, total: int = 400, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return unlabeled rows of which a share is of known classes, and whether each is novel."""
    draw = np.random.default_rng(seed)
    known, _ = gaussians(KNOWN, total, seed)
    novel, _ = gaussians(NOVEL, total, seed + 1)
    count = round(share * total)
    rows = np.vstack([draw.permutation(known)[:count], draw.permutation(novel)[: total - count]])
    return rows, np.arange(total) >= count


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_share_and_decisions(share: float) -> None:
    labeled, labels = gaussians(KNOWN, 60, 1)
    rows, is_novel = mixture(share)
    check = known_check(labeled, labels, rows, seed=0)
    assert check.share == pytest.approx(share, abs=0.1)
    assert check.count == round(check.share * len(rows))
    assert np.mean(check.looks_known == is_novel) < 0.12
    if 0 < share < 1:
        assert roc_auc_score(is_novel, check.scores) > 0.95
        assert check.scores[check.looks_known].max() <= check.scores[~check.looks_known].min()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
def test_a_least_share_gives_the_same_check_or_none(share: float) -> None:
    labeled, labels = gaussians(KNOWN, 60, 1)
    rows, _ = mixture(share)
    check = known_check(labeled, labels, rows, seed=0)
    for least in (0.0, 0.3, check.share, np.nextafter(check.share, 2), 0.9, 1.0):
        found = mostly_known(labeled, labels, rows, least=least, seed=0)
        assert (found is None) == (check.share < least)
        if found is not None:
            assert found.share == check.share
            np.testing.assert_array_equal(found.looks_known, check.looks_known)


def test_distances_alone_rule_out_a_set_of_novel_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    labeled, labels = gaussians(KNOWN, 60, 1)
    rows, _ = mixture(0.0)
    monkeypatch.delattr(known_or_novel, "logistic_regression")
    assert mostly_known(labeled, labels, rows, least=0.8, seed=0) is None
    with pytest.raises(NameError):
        mostly_known(labeled, labels, mixture(0.9)[0], least=0.8, seed=0)


def test_order_of_the_samples_does_not_matter_much_and_the_seed_decides_all() -> None:
    labeled, labels = gaussians(KNOWN, 60, 1)
    rows, _ = mixture(0.5)
    first, again = (known_check(labeled, labels, rows, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.scores, again.scores)
    other = known_check(labeled, labels, rows[::-1].copy(), seed=3)
    assert np.mean(other.looks_known[::-1] == first.looks_known) > 0.9


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("count", [200, 5000])
def test_share_of_a_mixture_of_two_scores(share: float, count: int) -> None:
    draw = np.random.default_rng(0)
    known = draw.normal(2, 1, count)
    inside = draw.random(count) < share
    unlabeled = np.where(inside, draw.normal(2, 1, count), draw.normal(-2, 1, count))
    assert known_share(known, unlabeled) == pytest.approx(share, abs=0.08)


def test_scores_that_tell_nothing_apart_leave_all_as_known() -> None:
    draw = np.random.default_rng(1)
    assert known_share(draw.normal(size=500), draw.normal(size=500)) > 0.9


def test_separation_is_measured_on_hidden_classes() -> None:
    labeled, labels = gaussians(KNOWN, 60, 1)
    found = measure_separation(labeled, labels, 0.5, seed=0)
    assert found.auroc > 0.95
    assert found.error < 0.12
    assert not found.is_weak
    # Where labels mean nothing, a hidden class cannot be separated from the others.
    scrambled = np.random.default_rng(2).permutation(labels)
    weak = measure_separation(labeled, scrambled, 0.5, seed=0)
    assert weak.auroc == pytest.approx(0.5, abs=0.12)
    assert weak.is_weak


def test_mistakes_are_named() -> None:
    labeled, labels = gaussians(KNOWN, 60, 1)
    with pytest.raises(InputError, match="8 labeled samples of 2 known classes are too few"):
        known_check(labeled[:8], labels[:8] * 0 + np.arange(8) % 2, labeled, seed=0)
    with pytest.raises(InputError, match="no unlabeled samples"):
        known_check(labeled, labels, labeled[:0], seed=0)
    with pytest.raises(InputError, match="2 known classes are too few"):
        measure_separation(labeled, labels % 2, 0.5, seed=0)
