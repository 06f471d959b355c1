"""Near-duplicates: every planted pair, and the recall of the index against brute force."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from crkd.clustering.kmeans import has_faiss
from crkd.clustering.near_duplicates import near_duplicates
from crkd.core.errors import InputError

# The package gives the function under this name.
duplicates = importlib.import_module("crkd.clustering.near_duplicates")


def images(known=6000, novel=1500, copies=400, seed=0, noise=0.08):
    """Clustered features, with some novel ones that are noisy copies of known ones."""
    draw = np.random.default_rng(seed)
    centers = draw.standard_normal((40, 32))
    base = centers[draw.integers(0, 40, known)] + 0.7 * draw.standard_normal((known, 32))
    fresh = centers[draw.integers(0, 40, novel)] + 0.7 * draw.standard_normal((novel, 32))
    source = draw.choice(known, copies, replace=False)
    fresh[:copies] = base[source] + noise * draw.standard_normal((copies, 32))
    lengths = draw.uniform(0.5, 2.0, (novel, 1))
    return base.astype(np.float32), (fresh * lengths).astype(np.float32), source


def cosines(base, rows):
    base, rows = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (base, rows))
    return rows.astype(np.float64) @ base.astype(np.float64).T


@pytest.mark.parametrize("faiss_there", [True, False])
def test_small_sets_are_compared_exactly(faiss_there, monkeypatch):
    if not faiss_there:
        monkeypatch.setattr(duplicates, "has_faiss", lambda: False)
    base, rows, _ = images()
    found = near_duplicates(base, rows, cosine=0.99)
    novel, known = np.nonzero(cosines(base, rows) >= 0.99)
    assert found.method == "exact"
    assert set(zip(found.known, found.novel, strict=True)) == set(zip(known, novel, strict=True))
    assert (np.diff(found.cosines) <= 0).all()
    assert len(novel) > 300


def test_index_finds_what_brute_force_finds():
    if not has_faiss():
        pytest.skip("faiss is not installed")
    base, rows, source = images()
    exact = near_duplicates(base, rows, cosine=0.99)
    index = near_duplicates(base, rows, cosine=0.99, exact_up_to=0)
    wanted = set(zip(exact.known, exact.novel, strict=True))
    got = set(zip(index.known, index.novel, strict=True))
    assert index.method == "ivf"
    assert got <= wanted
    assert len(got) > 0.99 * len(wanted)
    # It is an index and no full scan in disguise: farther neighbors do get lost.
    far_exact = near_duplicates(base, rows[400:], cosine=0.0)
    far_index = near_duplicates(base, rows[400:], cosine=0.0, exact_up_to=0)
    both = set(zip(far_exact.known, far_exact.novel, strict=True)) & set(
        zip(far_index.known, far_index.novel, strict=True)
    )
    assert len(both) < len(far_exact.known)
    planted = {(int(k), n) for n, k in enumerate(source)}
    assert len(planted & got) > 0.9 * len(planted)


def test_no_pair_gives_an_empty_result():
    found = near_duplicates(np.eye(4, dtype=np.float32), -np.eye(4, dtype=np.float32))
    assert len(found.known) == len(found.novel) == len(found.cosines) == 0


@pytest.mark.parametrize("exact_up_to", [0, 10])
def test_no_novel_image_gives_an_empty_result(exact_up_to):
    base, none = np.eye(4, dtype=np.float32), np.zeros((0, 4), np.float32)
    found = near_duplicates(base, none, exact_up_to=exact_up_to)
    assert len(found.known) == len(found.novel) == len(found.cosines) == 0
    assert (found.known.dtype, found.novel.dtype, found.cosines.dtype) == (
        np.int64,
        np.int64,
        np.float32,
    )


def test_mistakes_are_named():
    with pytest.raises(InputError, match="same network"):
        near_duplicates(np.eye(4, dtype=np.float32), np.eye(3, dtype=np.float32))
    with pytest.raises(InputError, match=r"cosine is 1\.5"):
        near_duplicates(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32), cosine=1.5)
