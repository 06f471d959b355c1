from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from crkd.clustering.novelty.energy import carried_threshold, energy_scores, energy_threshold


def test_the_energy_is_minus_the_log_of_the_sum_of_exponentials() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (20, 7))
    np.testing.assert_allclose(energy_scores(logits), -logsumexp(logits, axis=1))
    assert energy_scores(np.array([[1000.0, 1000.0]]))[0] == pytest.approx(-1000 - np.log(2))
    # No class has a large logit, so the score is large.
    assert energy_scores(np.zeros((1, 3)))[0] > energy_scores(np.array([[5.0, 0.0, 0.0]]))[0]


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5])
def test_no_group_has_more_false_alarms(rate: float) -> None:
    draw = np.random.default_rng(0)
    groups = [draw.normal(0, 1, 300), draw.normal(-2, 3, 1000), draw.normal(1, 0.1, 7)]
    threshold = energy_threshold(groups, false_alarms=rate)
    shares = [(scores > threshold).mean() for scores in groups]
    assert max(shares) <= rate
    # A threshold a little lower would have more in one of the groups.
    lower = max(scores[scores < threshold].max() for scores in groups)
    assert max((scores >= lower).mean() for scores in groups) > rate


def test_a_carried_threshold_leaves_as_many_samples_above_it() -> None:
    draw = np.random.default_rng(0)
    before = draw.normal(0, 1, 400)
    after = 3 * before - 7 + draw.normal(0, 0.1, 400)
    for threshold in (-1.0, 1.7, 9.0):
        carried = carried_threshold(threshold, before, after)
        assert (after > carried).sum() == (before > threshold).sum()
    # A classifier of the same order has the same samples above it.
    exact = carried_threshold(1.7, before, 3 * before - 7)
    assert ((3 * before - 7 > exact) == (before > 1.7)).all()
