"""Rows of a Parquet file of vectors are copied with all that belongs to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.data.vectors import selected_rows
from crkd.data.vectors.selected_rows import write_rows
from crkd.data.vectors.table import read_features

ROWS = {
    "ascending": np.arange(1, 1000, 3),
    "any order, twice": np.array([999, 3, 500, 3, 0]),
    "few": np.array([7, 900]),
    "none": np.empty(0, np.int64),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_those_of_the_whole_table(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {
        "id": [f"r{n}" for n in range(1000)],
        "label": pa.array(["a", None] * 500).dictionary_encode(),
        "sha256": pa.array([bytes([n % 256]) * 32 for n in range(1000)], pa.binary(32)),
        "f": pa.array(list(np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32))),
    }
    source = tmp_path / "x.parquet"
    table = pa.table(columns).replace_schema_metadata({"crkd_embedding": "{}", "other": "b"})
    pq.write_table(table, source, row_group_size=300)
    expected = pq.read_table(source).take(ROWS[name])
    whole = read_features(source)
    monkeypatch.setattr(selected_rows, "PIECE_ROWS", 64)
    monkeypatch.setattr(pq, "read_table", lambda *a, **o: pytest.fail("all rows were read"))
    found = pq.ParquetFile(write_rows(whole, ROWS[name], tmp_path, "some")).read()
    assert found.equals(expected)
    assert found.schema.equals(expected.schema, check_metadata=True)


def test_rows_of_many_pieces_are_in_few_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"f": np.arange(1000.0)}), tmp_path / "x.parquet")
    whole = read_features(tmp_path / "x.parquet")
    monkeypatch.setattr(selected_rows, "PIECE_ROWS", 50)
    place = write_rows(whole, np.arange(0, 1000, 10), tmp_path, "some")
    assert pq.ParquetFile(place).metadata.num_row_groups == 2
