"""Memory of a discovery: what heads hold for each row and class."""

from __future__ import annotations

from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.data.vectors import declared_size
from crkd.stages.vectors import memory
from crkd.stages.vectors.memory import FIXED_BYTES, discovery_bytes, head_bytes
from crkd.stages.vectors.run import discover_vectors
from tests.support.short_heads import short_heads
from tests.support.vector_clouds import KMEANS, config_of


@pytest.mark.parametrize(
    ("method", "heads"),
    [("heads", 12), ("plain_heads", 12), ("consensus", 12), ("auto", 12), ("sinkhorn_heads", 6)],
)
def test_heads_hold_probabilities_and_their_roots(
    method: str, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 4 * heads * 200_000 * 1000
    for faiss, held in ((True, 2), (False, 3)):
        monkeypatch.setattr(memory, "has_faiss", lambda faiss=faiss: faiss)
        assert held * one < head_bytes(method, 200_000, 1000, 0, 0) < 1.05 * held * one


@pytest.mark.parametrize("method", ["kmeans", "whitened_kmeans", "merging"])
def test_clusters_hold_no_probabilities(method: str) -> None:
    assert head_bytes(method, 200_000, 1000, 50_000, 500) == 0


def test_the_draws_of_a_contest_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of 1,000 known classes are hidden, in at most 10,000 vectors of each draw."""
    monkeypatch.setattr(memory, "has_faiss", lambda: True)
    for threads, draws in ((1, 1), (3, 3), (16, 4)):
        monkeypatch.setattr(memory, "threads_of_a_process", lambda threads=threads: threads)
        least = draws * 2 * 4 * 12 * 10_000 * 500
        assert least < head_bytes("auto", 100, 2, 50_000, 1000) < 2 * least
        assert head_bytes("heads", 100, 2, 50_000, 1000) < least / 20


def test_of_heads_and_predictions_the_larger_counts() -> None:
    sizes = {"rows": 1000, "length": 16, "sample": 500, "num_classes": 5}
    predictions = 20 * 1000 * 5
    least = discovery_bytes(**sizes, heads=0)
    assert least == FIXED_BYTES + 4 * 4 * 500 * 16 + 256 * 1000 + predictions
    assert discovery_bytes(**sizes, heads=predictions) == least
    assert discovery_bytes(**sizes, heads=predictions + 1) == least + 1


def test_vectors_in_memory_whose_heads_do_not_fit_are_refused(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declared_size, "free_host_bytes", lambda: 1 << 20)
    words = r"a discovery on 210 vectors needs .* MiB of memory, .*; give fewer rows or classes"
    with pytest.raises(InputError, match=words):
        discover_vectors(config_of(files, "vectors.method=heads"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with short_heads():
        assert discover_vectors(config_of(files, KMEANS), tmp_path / "run").path.is_dir()
