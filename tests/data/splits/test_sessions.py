from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.core.errors import InputError
from crkd.data.splits.sessions import SessionSizes, parse_session, sessions

LABELS = np.arange(120) % 6


MIXED = SessionSizes(15, 4)


def draws(seed: int = 0) -> list[np.ndarray]:
    return sessions(LABELS, (3, 2, 1), labeled_fraction=0.5, mixed=MIXED, seed=seed)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_sizes_of_a_mixed_session_and_no_labeled_sample_in_it(seed: int) -> None:
    base, first, second = draws(seed)
    assert np.bincount(LABELS[base], minlength=6).tolist() == [10, 10, 10, 0, 0, 0]
    assert np.bincount(LABELS[first], minlength=6).tolist() == [4, 4, 4, 15, 15, 0]
    assert np.bincount(LABELS[second], minlength=6).tolist() == [4, 4, 4, 4, 4, 15]
    for part in (base, first, second):
        assert (np.diff(part) > 0).all()
    assert not set(base) & (set(first) | set(second))


def test_a_plain_plan_has_all_samples_of_its_new_classes() -> None:
    base, first, second = sessions(LABELS, (3, 2, 1), labeled_fraction=1.0, mixed=None, seed=0)
    assert set(LABELS[base]) == {0, 1, 2}
    assert len(base) == 60
    assert np.flatnonzero((LABELS == 3) | (LABELS == 4)).tolist() == first.tolist()
    assert np.flatnonzero(LABELS == 5).tolist() == second.tolist()


def test_draws_depend_on_the_seed_alone() -> None:
    one, same, other = draws(0), draws(0), draws(1)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[1], other[1])


@pytest.mark.parametrize(
    ("mixed", "fraction", "message"),
    [
        (SessionSizes(15, 11), 0.5, "a base class has 10 samples without a label"),
        (SessionSizes(15, 1), 1.0, "a base class has 0 samples without a label"),
        (SessionSizes(25, 4), 0.5, "a class has 20 samples, and --session asks for 25"),
    ],
)
def test_too_few_samples(mixed: SessionSizes, fraction: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sessions(LABELS, (3, 2, 1), labeled_fraction=fraction, mixed=mixed, seed=0)


@pytest.mark.parametrize("text", ["", "400", "400-", "0-25", "-1-2", "a-b", "1-2-3"])
def test_unusable_sizes(text: str) -> None:
    with pytest.raises(InputError, match="such as 400-25"):
        parse_session(text)
