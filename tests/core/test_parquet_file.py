"""Parquet files are read in small pieces, from any path."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core.parquet_file import in_pieces, mapped_file, native_file

VALUES = pa.table({"f": np.random.default_rng(0).standard_normal(1_000_000)})


class Noting(io.FileIO):
    """A file that notes how many bytes are asked for at once."""

    asked: list[int]

    def read(self, size: int | None = -1) -> bytes | None:
        self.asked.append(-1 if size is None else size)
        return super().read(size)


@pytest.fixture
def large_group(tmp_path: Path) -> Path:
    """A group of rows of 8 MB."""
    file = tmp_path / "x.parquet"
    pq.write_table(VALUES, file, use_dictionary=False, compression="none")
    return file


def test_a_column_of_a_group_is_not_read_at_once(large_group: Path) -> None:
    with Noting(large_group) as source:
        source.asked = []
        rows = [len(batch) for batch in in_pieces(source).iter_batches(batch_size=1000)]
        assert rows == [1000] * 1000
        assert 0 < max(source.asked) <= 2 << 20
        assert sum(source.asked) > 8_000_000


def test_known_metadata_are_not_read_again(large_group: Path) -> None:
    metadata = pq.read_metadata(large_group)
    with Noting(large_group) as source:
        source.asked = []
        assert in_pieces(source, metadata).metadata.num_rows == 1_000_000
        assert not source.asked


def test_a_path_that_is_not_utf8_is_opened_to_read_and_to_write(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.parquet"))
    with native_file(odd, "wb") as sink:
        pq.write_table(VALUES, sink)
    assert [os.fsencode(file.name) for file in tmp_path.iterdir()] == [b"caf\xe9.parquet"]
    with native_file(odd) as source, mapped_file(odd) as mapped:
        assert source.read() == mapped.read() == odd.read_bytes()
        assert in_pieces(mapped).read().equals(VALUES)
    with pytest.raises(FileNotFoundError, match="No such file"):
        native_file(odd.with_name("missing"))
