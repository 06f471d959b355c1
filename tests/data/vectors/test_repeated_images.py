from __future__ import annotations

from pathlib import Path

import numpy as np

from crkd.data.vectors.embedding_file import EmbeddingInfo, RootEntry, writing_embeddings
from crkd.data.vectors.repeated_images import repeated_images


def save(path: Path, contents: list[int]) -> Path:
    """Write a file of vectors whose images have these contents."""
    root = RootEntry(path.stem, f"/{path.stem}", len(contents))
    info = EmbeddingInfo("1", "lite0", "0" * 64, 3, {}, {"runtime": "torch"}, (root,), 0)
    digests = np.zeros((len(contents), 32), np.uint8)
    # Equal but for their last byte.
    digests[:, 31] = contents
    with writing_embeddings(path, info) as writer:
        ids = [f"{path.stem}/{row}" for row in range(len(contents))]
        writer.write(ids, [None] * len(ids), digests, np.zeros((len(ids), 3), np.float32))
    return path


def test_images_of_equal_content_are_named_with_the_first_one(tmp_path: Path) -> None:
    files = [save(tmp_path / "a.parquet", [7, 1, 7, 2]), save(tmp_path / "b.parquet", [3, 1, 7])]
    found = repeated_images(files, 10)
    assert found.count == 3
    assert found.pairs == [("a/2", "a/0"), ("b/1", "a/1"), ("b/2", "a/0")]
    assert repeated_images(files, 1).pairs == [("a/2", "a/0")]
    assert repeated_images(files, 1).count == 3


def test_different_images_are_not_named(tmp_path: Path) -> None:
    assert repeated_images([save(tmp_path / "a.parquet", [1, 2, 3])], 5).count == 0
    assert repeated_images([save(tmp_path / "b.parquet", [])], 5).count == 0
