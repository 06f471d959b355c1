"""Samples of very many vectors."""

from __future__ import annotations

import numpy as np
import pytest

from crkd.stages.vectors import sampling
from crkd.stages.vectors.sampling import known_sample, reviewed_sample, unlabeled_sample


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_ROWS", 50)
    monkeypatch.setattr(sampling, "ROWS_OF_A_CLASS", 10)


def test_every_class_keeps_an_even_share_and_two_rows() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [120, 70, 9, 1]))
    rows = known_sample(labels, 3, seed=0)
    assert np.bincount(labels[rows]).tolist() == [30, 18, 2, 1]
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() != known_sample(labels, 3, seed=1).tolist()
    assert known_sample(labels, 20, seed=0).tolist() == list(range(200))
    assert known_sample(labels[:0], 3, seed=0).tolist() == []


def test_unlabeled_rows_are_drawn_above_the_limit() -> None:
    rows = unlabeled_sample(400, 3, seed=0)
    assert len(rows) == len(set(rows.tolist())) == 50
    assert (np.diff(rows) > 0).all()
    assert 0 <= rows[0] < rows[-1] < 400
    assert rows.tolist() != unlabeled_sample(400, 3, seed=1).tolist()
    assert len(unlabeled_sample(400, 12, seed=0)) == 120
    for count in (0, 50):
        assert unlabeled_sample(count, 3, seed=0).tolist() == list(range(count))


def test_images_that_a_person_decided_on_stay_in_the_sample() -> None:
    labels = np.repeat([0, 1, -1], [100, 100, 50])
    by_person = np.zeros(250, np.bool_)
    by_person[[3, 5, 150, 220]] = True
    rows = reviewed_sample(labels, by_person, 2, seed=0)
    drawn = known_sample(labels[:200], 2, seed=0)
    assert set(rows.tolist()) == {*drawn.tolist(), 3, 5, 150}
    assert (np.diff(rows) > 0).all()
    assert np.bincount(labels[drawn]).tolist() == [25, 25]
    assert reviewed_sample(labels, by_person, 30, seed=0).tolist() == list(range(200))
