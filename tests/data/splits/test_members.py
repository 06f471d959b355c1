"""Members of each class: those that a search for each class finds, and the same draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.core.shuffle import stable_shuffle
from crkd.data.splits.members import members_of
from crkd.data.splits.partition import LABELED_SEED, _held_out, _without_label
from crkd.data.splits.sessions import sessions
from crkd.data.splits.smaller import SEED, STREAM, class_fraction_mask


def searched(labels: np.ndarray, classes: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(labels == label) for label in classes]


LABELS = st.lists(st.integers(-2, 9), max_size=60).map(lambda found: np.array(found, np.int64))


@settings(max_examples=200)
@given(labels=LABELS, classes=st.sets(st.integers(-3, 12)).map(sorted))
def test_members_are_those_of_a_search_for_each_class(
    labels: np.ndarray, classes: list[int]
) -> None:
    wanted = np.array(classes, np.int64)
    found = members_of(labels, wanted)
    assert [rows.tolist() for rows in found] == [r.tolist() for r in searched(labels, wanted)]
    assert all(rows.dtype == np.int64 for rows in found)


@settings(max_examples=60)
@given(labels=LABELS, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_no_draw_differs_from_that_of_a_search_for_each_class(
    labels: np.ndarray, fraction: float, seed: int
) -> None:
    """The draws of earlier versions, written once more."""
    without, held, kept = (np.zeros(len(labels), np.bool_) for _ in range(3))
    for known in range(5):
        rows = np.flatnonzero(labels == known)
        order = stable_shuffle(len(rows), LABELED_SEED, stream=known)
        without[rows[order[max(1, round(fraction * len(rows))) :]]] = True
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        held[rows[stable_shuffle(len(rows), seed, stream=known)[:count]]] = True
    for label in sorted(set(labels.tolist())):
        rows = np.flatnonzero(labels == label)
        order = stable_shuffle(len(rows), SEED, stream=STREAM + label + 1)
        kept[rows[order[: max(1, round(fraction * len(rows)))]]] = True
    assert np.array_equal(_without_label(labels, 5, fraction), without)
    assert np.array_equal(_held_out(labels, 5, fraction, seed), held)
    assert np.array_equal(class_fraction_mask(labels, fraction), kept)
    base = sessions(labels, (5,), labeled_fraction=fraction, mixed=None, seed=seed)[0]
    drawn = [
        rows[stable_shuffle(len(rows), seed, stream=label)][: max(1, round(fraction * len(rows)))]
        for label, rows in enumerate(searched(labels, np.arange(5)))
    ]
    assert base.tolist() == sorted(np.concatenate(drawn).tolist())


def test_labels_are_not_searched_once_for_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(400) % 100
    searches, search = [], np.flatnonzero
    monkeypatch.setattr(np, "flatnonzero", lambda found: searches.append(1) or search(found))
    _without_label(labels, 100, 0.5)
    _held_out(labels, 100, 0.5, seed=0)
    class_fraction_mask(labels, 0.5)
    sessions(labels, (50, 50), labeled_fraction=0.5, mixed=None, seed=0)
    assert not searches
