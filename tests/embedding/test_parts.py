"""Vectors in parts: found by their digest, and not all in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from crkd.embedding import parts
from crkd.embedding.parts import KnownVectors, PartWriter

MAPS = Path("/proc/self/maps")


def mapped(folder: Path) -> set[str]:
    """Return the names of the parts that are mapped into this process."""
    lines = (line for line in MAPS.read_text().splitlines() if str(folder) in line)
    return {line.rsplit("/", 1)[1] for line in lines}


@pytest.mark.skipif(not MAPS.exists(), reason="needs /proc")
def test_one_part_is_mapped_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 4)
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    digests = [hashlib.sha256(vector).digest() for vector in vectors]
    writer = PartWriter(tmp_path, 0, 8)
    for digest, vector in zip(digests, vectors, strict=True):
        writer.add([digest], vector[None])
    writer.flush()
    assert len(list(tmp_path.iterdir())) == 5
    known = KnownVectors(None, tmp_path, 8)
    assert len(known) == 20
    assert mapped(tmp_path) == set()
    for number in (0, 1, 19, 4, 18, 0):
        row = known.find(digests[number])
        np.testing.assert_array_equal(known.vector(row), vectors[number])
        assert mapped(tmp_path) == {f"part-0000-{number // 4:06d}.npy"}
    assert known.find(bytes(32)) == -1
