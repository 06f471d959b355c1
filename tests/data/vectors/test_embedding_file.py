from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core.errors import InputError
from crkd.data.vectors import embedding_file, read_features
from crkd.data.vectors.embedding_file import (
    EmbeddingFile,
    EmbeddingInfo,
    RootEntry,
    read_info,
    writing_embeddings,
)

INFO = EmbeddingInfo("0.1", "lite0", "ab", 3, {}, {}, (RootEntry("a", "/a", 5),), 1)
VECTORS = np.arange(15, dtype=np.float32).reshape(5, 3)
DIGESTS = np.arange(160, dtype=np.uint8).reshape(5, 32)
LABELS = ["cat", None, "dog", "cat", None]


def written(path: Path) -> Path:
    with writing_embeddings(path, INFO) as writer:
        for rows in (slice(0, 2), slice(2, 5)):
            ids = [f"a/{row}" for row in range(5)][rows]
            writer.write(ids, LABELS[rows], DIGESTS[rows], VECTORS[rows])
    return path


def test_what_is_written_is_read_by_row_and_as_features(tmp_path: Path):
    file = written(tmp_path / "v.parquet")
    with EmbeddingFile(file) as opened:
        assert (len(opened), opened.info) == (5, INFO)
        np.testing.assert_array_equal(opened.digests(), DIGESTS)
        for row in (4, 0, 2, 1, 3):
            found = opened.row(row)
            assert (found.image_id, found.label) == (f"a/{row}", LABELS[row])
            np.testing.assert_array_equal(found.vector, VECTORS[row])
    table = read_features(file)
    np.testing.assert_array_equal(table.features, VECTORS)
    assert table.labels == [label or "" for label in LABELS]
    assert table.embedding is not None
    assert table.embedding["backbone"] == "lite0"


def test_equal_rows_make_equal_files(tmp_path: Path):
    one, other = written(tmp_path / "a.parquet"), written(tmp_path / "b.parquet")
    assert one.read_bytes() == other.read_bytes()


def test_damaged_and_foreign_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "v.parquet"
    file.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot read the vectors"):
        read_info(file)
    monkeypatch.setattr(embedding_file, "asdict", lambda info: {"backbone": "lite0"})
    with pytest.raises(InputError, match="are damaged or of another version"):
        read_info(written(file))


def test_digests_of_another_type_are_refused(tmp_path: Path):
    file = written(tmp_path / "v.parquet")
    table = pq.read_table(file)
    place = table.column_names.index("sha256")
    pq.write_table(table.set_column(place, "sha256", pa.array(["x"] * 5)), file)
    with EmbeddingFile(file) as opened, pytest.raises(InputError, match="no 32 bytes for each row"):
        opened.digests()
